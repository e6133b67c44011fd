"""Following a job: plain lines without a terminal, a live bar on one, and what Ctrl-C does."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable

import pytest
from typer.testing import Result

from strongroom.cli.connection import client
from strongroom.cli.output.progress import Meter, format_figures
from support.canned import BACKUP, DELETE_PLAN, DONE, Canned, Running, spawn
from support.terminal import on_terminal

Run = Callable[..., Result]
MiB = 1024**2


@pytest.fixture
def backing_up(canned: Canned) -> Canned:
    canned.on("POST", "/backups", (202, {"backup": BACKUP}, {"Strongroom-Job": "j1"}))
    canned.on("GET", f"/backups/{BACKUP['id']}", (200, {"backup": BACKUP}))
    return canned


def test_phases_are_printed_on_stderr_and_the_result_on_stdout(run: Run, backing_up: Canned) -> None:
    backing_up.on_job(
        {"status": "queued"},
        {"phase": "backup", "done": 100 * MiB, "total": 300 * MiB, "stored": 30 * MiB},
        {"phase": "backup", "done": 200 * MiB, "total": 300 * MiB, "stored": 60 * MiB},
        {"phase": "finish", "done": 0},
        {"phase": "finish", **DONE},
    )
    result = run("backup", "create", "monday", "-i", "mysql1", "-f", "value", "-c", "id")
    assert result.exit_code == 0
    assert result.stdout == BACKUP["id"] + "\n"
    assert result.stderr.splitlines() == [
        "waiting in the queue",
        "backup: 100.0 MiB of 300.0 MiB, stored 30.0 MiB (3.3x)",
        "finish",
    ]
    polls = [query for _, path, query, _ in backing_up.asked if path.endswith("/jobs/j1")]
    assert polls == ["", *(f"wait=20.0&after={n}" for n in range(4))]


def test_a_failed_job_fails_the_command_with_its_fault(run: Run, backing_up: Canned) -> None:
    fault = {"code": "Conflict", "message": "the store is full", "remedy": "Free some space."}
    backing_up.on_job({"status": "failed", "finished": "2026-11-21T07:00:01Z", "fault": fault})
    result = run("backup", "create", "monday", "-i", "mysql1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: the store is full\nFree some space.\n"


def test_a_cancelled_job_fails_the_command(run: Run, backing_up: Canned) -> None:
    backing_up.on_job({"status": "cancelled", "finished": "2026-11-21T07:00:01Z"})
    result = run("backup", "create", "monday", "-i", "mysql1")
    assert result.exit_code == 1
    assert "backup job j1 was cancelled" in result.stderr


def test_no_wait_returns_at_once(run: Run, backing_up: Canned) -> None:
    result = run("backup", "create", "monday", "-i", "mysql1", "--no-wait", "-f", "value", "-c", "name")
    assert (result.exit_code, result.stdout) == (0, "monday\n")
    assert "strongroom job follow j1" in result.stderr
    assert not any("/jobs/" in path for _, path, _, _ in backing_up.asked)


def test_restart_of_the_service_does_not_end_following_a_job(run: Run, running: Running, backing_up: Canned) -> None:
    backing_up.on_job(*({"phase": "backup", "done": n} for n in range(40)), DONE)

    def restart() -> None:
        while not any("after=" in query for _, _, query, _ in backing_up.asked):
            time.sleep(0.01)
        running.stop()
        time.sleep(0.5)
        running.start()

    backing_up.answers["GET", "/jobs/j1"][1:1] = [(503, {"x": {"code": 503, "message": "away", "error_code": "Unavailable"}})]
    thread = threading.Thread(target=restart)
    thread.start()
    result = run("backup", "create", "monday", "-i", "mysql1")
    thread.join()
    assert result.exit_code == 0, result.stderr
    assert "waiting for it. Running jobs continue on the hosts" in result.stderr


def test_a_job_is_not_followed_forever_without_a_service(run: Run, backing_up: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PATIENCE", 0.5)
    backing_up.on_job({"phase": "backup"})
    backing_up.answers["GET", "/jobs/j1"].append((503, {"x": {"code": 503, "message": "away", "error_code": "Unavailable"}}))
    result = run("backup", "create", "monday", "-i", "mysql1")
    assert result.exit_code == 5


def test_cancel_waits_for_the_end_and_reports_that_it_was_too_late(run: Run, canned: Canned) -> None:
    canned.on("DELETE", "/jobs/j1", (202, None))
    canned.on_job({}, {"status": "cancelled", "finished": "2026-11-21T07:00:01Z"})
    result = run("job", "cancel", "j1", "-f", "value", "-c", "status")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "cancelled\n", "")
    canned.on_job(DONE)
    late = run("job", "cancel", "j1")
    assert "had already succeeded" in late.stderr


def test_ctrl_c_does_not_cancel_the_job(canned: Canned) -> None:
    canned.on_job({"phase": "backup"})
    process = spawn(canned, "job", "follow", "j1", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not any("after=" in query for _, _, query, _ in canned.asked):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == 130
    assert b"job j1 continues" in stderr and b"strongroom job cancel j1" in stderr
    assert not any(verb == "DELETE" for verb, _, _, _ in canned.asked)


def test_on_a_terminal_there_is_a_bar_and_finished_phases_stay(backing_up: Canned) -> None:
    backing_up.on_job(
        {"phase": "backup", "done": 150 * MiB, "total": 300 * MiB, "stored": 50 * MiB},
        {"phase": "[b]finish\x1b[2J", "done": 10},
        {"phase": "[b]finish\x1b[2J", "done": 10, **DONE},
    )
    backing_up.delay = 0.4  # the screen is drawn ten times a second
    code, shown = on_terminal(backing_up, "backup", "create", "monday", "-i", "mysql1")
    assert code == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.replace("\x1b[2J", "CLEARED"))
    assert "150.0 MiB of 300.0 MiB, stored 50.0 MiB (3.0x)" in text
    assert re.search(r"✓ backup: \d+\.\d s", text)
    assert "✓ [b]finish\\x1b[2J: 0." in text
    assert "CLEARED" not in text
    assert BACKUP["id"] in text


def test_terminal_asks_before_data_is_lost(backing_up: Canned) -> None:
    backing_up.on("GET", "/backups/monday/delete-plan", (200, {"plan": DELETE_PLAN}))
    backing_up.on("DELETE", f"/backups/{BACKUP['id']}", (202, None, {"Strongroom-Job": "j1"}))
    backing_up.on_job(DONE)
    code, shown = on_terminal(backing_up, "backup", "delete", "monday", type_in="n\n")
    assert code == 1
    assert "Delete backup monday permanently?" in shown
    assert [verb for verb, *_ in backing_up.asked] == ["GET"]
    hostile = {**DELETE_PLAN, "name": "x\x9b2J\u202ey"}
    backing_up.on("GET", "/backups/hostile/delete-plan", (200, {"plan": hostile}))
    _, shown = on_terminal(backing_up, "backup", "delete", "hostile", type_in="n\n")
    assert "Delete backup x\\x9b2J\\u202ey permanently?" in shown
    assert "\x9b" not in shown and "\u202e" not in shown
    code, _ = on_terminal(backing_up, "backup", "delete", "monday", type_in="y\n")
    assert code == 0
    assert "DELETE" in [verb for verb, *_ in backing_up.asked]


def test_remaining_time_is_shown_on_narrow_terminals() -> None:
    job = {"kind": "backup", "done": 150 * MiB, "total": 300 * MiB, "stored": 50 * MiB}
    meter = Meter()
    meter.add(50 * MiB, 0)
    meter.add(150 * MiB, 1)
    assert format_figures(job, meter) == "150.0 MiB of 300.0 MiB, 1.5 s left, 100.0 MiB/s, stored 50.0 MiB (3.0x)"
    assert format_figures(job, meter, 50) == "150.0 MiB of 300.0 MiB, 1.5 s left, 100.0 MiB/s"
    assert format_figures(job, meter, 40) == "150.0 MiB of 300.0 MiB, 1.5 s left"


def test_rate_covers_the_last_seconds_and_starts_again_with_a_new_attempt() -> None:
    meter = Meter()
    assert meter.rate is None and meter.left(100) is None
    for second in range(30):
        meter.add(10 * second if second < 15 else 150 + 100 * (second - 15), second)
    assert meter.rate == pytest.approx(100)
    assert meter.left(1550 + 500) == pytest.approx(5)
    meter.add(5, 31)
    assert meter.rate is None
    assert format_figures({"kind": "backup", "done": 0, "total": None, "stored": 0}, meter) == ""
    assert (
        format_figures({"kind": "backup", "done": 2048, "total": 1024, "stored": 0}, meter) == "2.0 KiB"
    )  # too low an estimate is not shown
