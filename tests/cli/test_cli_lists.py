"""Lists: what fits a terminal, filters, order, totals, trees; and the options that all commands share."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from typer.testing import Result

from strongroom.api.clusters.views import TASKS
from strongroom.api.instances.views import STATES
from strongroom.cli.commands import instance
from strongroom.cli.connection.completion import complete_names
from strongroom.cli.filters import parse_time
from strongroom.cli.output.values import format_age, format_count
from strongroom.errors import InvalidRequest
from strongroom.flows.kinds.lifecycle import TASK
from support.canned import BACKUP, DONE, INSTANCE, Canned, Running
from support.terminal import on_terminal

Run = Callable[..., Result]
NOW = datetime.now(UTC)


def backup(name: str, key: str, hours: float, parent: str | None = None, **more: Any) -> dict[str, Any]:
    created = (NOW - timedelta(hours=hours)).isoformat()[:19]
    kind = "incremental" if parent else "full"
    ids = {"id": f"{key * 8}-8a5d-4b52-9b0d-0f5b8f3c2a11", "parent_id": parent and f"{parent * 8}-8a5d-4b52-9b0d-0f5b8f3c2a11"}
    return {**BACKUP, **ids, "name": name, "created": created, "kind": kind, "chain_id": more.get("chain", "c1"), **more}


BACKUPS = [
    backup("mysql1-20261124-070000", "d", 1, "c", verified=None, stored_size=1024),
    backup("branch", "e", 2, "a", verified=None, stored_size=2048),
    backup("wednesday", "c", 3, "b"),
    backup("tuesday", "b", 50, "a", restorable=False, unrestorable_reason="it is damaged"),
    backup("monday", "a", 80),
    backup("older", "f", 900, chain="c2", status="FAILED", restorable=False, verified=None, stored_size=None),
]
JOB = {
    **DONE,
    "id": "01a229f7-521e-7bc4-b15d-d05090759836",
    "kind": "backup",
    "instance_name": "mysql1",
    "backup_name": "monday",
    "asked_by": "alice",
    "phase": "done",
    "seconds": 3.2,
    "created": NOW.isoformat(),
    "fault": {"message": "the disk of the store is full, and so nothing more could be written to it"},
}


@pytest.fixture
def listed(canned: Canned) -> Canned:
    canned.on("GET", "/backups", (200, {"backups": BACKUPS}))
    canned.on("GET", "/backups/monday", (200, {"backup": BACKUPS[4]}))
    canned.on("GET", "/instances/mysql1", (200, {"instance": INSTANCE}))
    canned.on("GET", "/jobs", (200, {"jobs": [JOB]}))
    return canned


@pytest.mark.parametrize("words", [["backup", "list"], ["backup", "list", "--tree"], ["job", "list"]])
def test_a_list_fits_a_terminal_of_80_columns(listed: Canned, words: list[str]) -> None:
    code, shown = on_terminal(listed, *words, width=80)
    assert code == 0
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).splitlines()
    assert max(len(line) for line in lines if not line.startswith("6 backups")) <= 80
    count = len(BACKUPS) if words[0] == "backup" else 1
    rows = [line for line in lines if re.search(r"[0-9a-f]{8}$", line.rstrip())]
    assert len(rows) == count, "a line for each"
    assert len([line for line in lines if line.strip()]) == count + 2 + (words[0] == "backup"), "and nothing is folded"
    if words[0] == "job":
        assert rows[0].rstrip().endswith("90759836") and "monday" in rows[0] and "the disk of" in rows[0]
    else:
        assert "aaaaaaaa" in shown and "3 days ago" in shown and "not restorable" in shown and "never" in shown


def test_list_is_complete_without_a_terminal_or_with_wide(run: Run, listed: Canned) -> None:
    shown = run("backup", "list").stdout
    assert BACKUPS[4]["id"] in shown and "Created (UTC)" in shown and "Ratio" in shown
    code, wide = on_terminal(listed, "backup", "list", "--wide", "--time", "age", width=250)
    assert code == 0
    assert BACKUPS[4]["id"] in wide and "Ratio" in wide and "3 days ago" in wide


def names(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return [item["name"] for item in json.loads(result.stdout)]


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("--since 4h", "dec"),
        ("--until 2d", "baf"),
        ("--since 4d --until 49h", "ba"),
        ("--status completed", "decba"),
        ("--kind full", "af"),
        ("--unverified", "def"),
        ("--chain monday", "decba"),
        ("--limit 2", "de"),
        ("--sort name", None),
        ("--sort -stored_size --limit 1 --kind full", "a"),
        ("--kind incremental --sort stored --limit 2", "de"),
    ],
)
def test_backups_are_filtered_and_sorted(run: Run, listed: Canned, words: str, kept: str | None) -> None:
    found = names(run("backup", "list", "-f", "json", *words.split()))
    by_key = {b["id"][0]: b["name"] for b in BACKUPS}
    assert found == ([by_key[key] for key in kept] if kept else sorted(by_key.values()))


def test_invalid_filters_are_refused(run: Run, listed: Canned) -> None:
    for words in ("--since yesterday", "--sort nonsense", "--kind some"):
        assert run("backup", "list", *words.split()).exit_code == 2
    with pytest.raises(InvalidRequest, match="is not a time"):
        parse_time("12y", NOW)
    with pytest.raises(InvalidRequest, match="is not a time"):
        parse_time("999999w", NOW)
    assert parse_time("2w", NOW) == NOW - timedelta(weeks=2)
    assert parse_time("1d12h", NOW) == NOW - timedelta(hours=36)  # as in policies
    assert parse_time("2026-11-21", NOW) == datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("backup list --status COMPLETD", "Did you mean COMPLETED?"),
        ("instance list --status activ", "Did you mean ACTIVE?"),
    ],
)
def test_a_filter_with_an_unknown_value_is_refused(run: Run, listed: Canned, words: str, hint: str) -> None:
    refused = run(*words.split())
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert hint in refused.stderr and "It is one of " in refused.stderr


def test_filters_know_every_status() -> None:
    tasks = {"BUILD", "RESTORE", "SHUTDOWN", "RESIZE", "ERROR", "BACKUP", "UNKNOWN"}
    shown = {*STATES.values(), *(task for task in [*TASK.values(), *TASKS] if task), *tasks}
    assert set(instance.STATUSES) == shown


def test_jobs_of_several_kinds_are_merged(run: Run, listed: Canned) -> None:
    times = [NOW - timedelta(hours=hours) for hours in range(4)]
    jobs = [{**JOB, "id": f"{at:%H}", "created": at.isoformat()} for at in times]
    listed.on("GET", "/jobs", (200, {"jobs": jobs[::2]}), (200, {"jobs": jobs[1::2]}))
    found = json.loads(run("job", "list", "--kind", "backup", "--kind", "Restore", "--limit", "3", "-f", "json").stdout)
    assert [job["id"] for job in found] == [job["id"] for job in jobs[:3]]
    assert {query for _, path, query, _ in listed.asked if path.endswith("/jobs")} == {
        "limit=3&kind=backup",
        "limit=3&kind=restore",
    }


def test_an_unknown_instance_is_an_error_and_a_deleted_one_is_not(run: Run, listed: Canned) -> None:
    listed.on("GET", "/backups", (200, {"backups": []}), (200, {"backups": BACKUPS}))
    assert run("backup", "list", "-i", "typo").exit_code == 3
    gone = [{**b, "instance_name": "gone", "instance_id": "i9"} for b in BACKUPS]
    listed.on("GET", "/backups", (200, {"backups": []}), (200, {"backups": gone}))
    assert len(names(run("backup", "list", "-i", "gone", "-f", "json"))) == len(BACKUPS)
    listed.on("GET", "/backups", (200, {"backups": []}))
    empty = run("backup", "list", "-i", "mysql1")
    assert (empty.exit_code, empty.stdout, empty.stderr) == (0, "", "No backups.\n")


def test_a_chain_is_drawn_as_a_tree_and_counted(run: Run, listed: Canned) -> None:
    shown = run("backup", "list", "--tree")
    drawn = [line[: line.index("mysql1 ")].rstrip() for line in shown.stdout.splitlines()[2:]]
    assert drawn == ["monday", "  └ branch", "└ tuesday", "└ wednesday", "└ mysql1-20261124-070000", "older"]
    assert "6 backups (300.0 MiB in the store), 4 restorable, 3 verified." in shown.stderr
    assert run("backup", "list", "--quiet").stderr == ""


def test_csv(run: Run, listed: Canned) -> None:
    shown = run("backup", "list", "-f", "csv", "-c", "name", "-c", "stored_size", "-c", "verified")
    rows = list(csv.reader(io.StringIO(shown.stdout)))
    assert rows[0] == ["name", "stored_size", "verified"]
    assert rows[5][:2] == ["monday", str(100 * 1024**2)]
    assert json.loads(rows[5][2])["ok"] is True
    names = {"=1+1": "'=1+1", "+1": "'+1", "-1": "'-1", "@a": "'@a", "\t=1": "\\t=1", "\r=1": "\\r=1", "a=1": "a=1"}
    listed.on("GET", "/backups", (200, {"backups": [{**BACKUPS[4], "name": name, "stored_size": -1} for name in names]}))
    shown = run("backup", "list", "-f", "csv", "-c", "name", "-c", "stored_size")
    assert list(csv.reader(io.StringIO(shown.stdout)))[1:] == [[cell, "-1"] for cell in names.values()]


def test_options_are_accepted_before_and_after_the_command(run: Run, running: Running) -> None:
    running.canned.on("GET", "/v1.0/p1/instances", (200, {"instances": []}))
    running.canned.on("GET", "/v1.0/p2/instances", (200, {"instances": []}))
    assert run("--project", "p1", "instance", "list").exit_code == 0
    assert run("--project", "p1", "instance", "list", "--project", "p2").exit_code == 0
    assert [path for _, path, *_ in running.canned.asked] == ["/v1.0/p1/instances", "/v1.0/p2/instances"]
    assert run("--url", "http://127.0.0.1:1", "instance", "list").exit_code == 5


def test_names_are_completed_and_safe_for_the_shell(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        params: ClassVar[dict[str, Any]] = {}

        def find_root(self) -> Context:
            return self

    monkeypatch.setenv("STRONGROOM_URL", running.canned.url)
    hostile = [{**INSTANCE, "name": name} for name in ("shop", "my$(reboot)", "my shop", "my`id`", "my;id", "my\u202eshop")]
    running.canned.on("GET", "/instances", (200, {"instances": [INSTANCE, *hostile]}))
    assert complete_names("instances")(Context(), "my") == ["mysql1"]  # type: ignore[arg-type]
    assert complete_names("backups")(Context(), "") == []  # type: ignore[arg-type]
    running.stop()
    assert complete_names("instances")(Context(), "my") == []  # type: ignore[arg-type]


def test_completion_never_asks_for_a_password(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    class Context:
        params: ClassVar[dict[str, Any]] = {"username": "alice"}

        def find_root(self) -> Context:
            return self

    def ask(*_: object, **__: object) -> str:
        pytest.fail("a password was asked for")

    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("STRONGROOM_PASSWORD_FILE", raising=False)
    monkeypatch.setenv("STRONGROOM_URL", running.canned.url)
    monkeypatch.setenv("OS_AUTH_URL", running.canned.url)
    monkeypatch.setenv("OS_USERNAME", "alice")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.prompt", ask)
    for challenge in ('Basic realm="strongroom"', f'Keystone uri="{running.canned.url}"'):
        running.canned.on("GET", "/instances", (401, {"unauthorized": {"message": "no"}}, {"WWW-Authenticate": challenge}))
        assert complete_names("instances")(Context(), "") == []  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "5 s ago"), (700, "11 min ago"), (7200, "2 h ago"), (47 * 3600, "47 h ago"), (86400 * 9, "9 days ago")],
)
def test_ages(seconds: int, text: str) -> None:
    assert format_age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == text


def test_a_time_in_the_future_is_shown_with_its_zone() -> None:
    later = NOW + timedelta(hours=5)
    assert format_age(later.isoformat(), NOW) == f"{later:%Y-%m-%d %H:%M:%S} UTC"


def test_one_thing_has_no_plural() -> None:
    assert [format_count(count, "segment") for count in (0, 1, 2)] == ["0 segments", "1 segment", "2 segments"]
