"""The faults of a backup and of a restore, on MySQL: killed, stopped, cancelled, damaged; and what only it has."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pymysql
import pytest

from support.databases import MYSQL as database
from support.faults import backup_soon, duration, hit, kill_everything, kill_service, kill_workers, resume_signalled
from support.service import Failed, Refused, Service

BLOWS = [kill_workers, kill_service, kill_everything]
ROWS = 6000
"""Enough that a backup can be hit."""


@pytest.fixture
def service(serve: Callable[..., Service]) -> Service:
    return serve(config="[artifact]\nsegment_size = 1048576\n" + database.config)


def begin_backup(service: Service, name: str, **fields: object) -> str:
    response = service.call("POST", "/backups", {"backup": {"name": name, "instance": "my1", **fields}})
    return response.headers["Strongroom-Job"]


def in_place(service: Service, backup: dict[str, Any]) -> str:
    return service.act("/instances/my1/action", {"restore": {"backupRef": backup["id"]}})


def healthy(service: Service, seconds: float = 120) -> None:
    """Wait until the instance serves again, by its own word too: what the service says may be a few seconds old."""
    deadline = time.monotonic() + seconds
    while True:
        view = service.get("/instances/my1")["instance"]
        if view["operating_status"] == "HEALTHY":
            with contextlib.suppress(pymysql.MySQLError):
                database.execute(service, "my1", "SELECT 1")
                return
        assert time.monotonic() < deadline, view
        time.sleep(0.2)


def caught(service: Service, job: str, phase: str = "copy", seconds: float = 60) -> int:
    """Suspend the worker of the job in this phase; its pid."""
    deadline = time.monotonic() + seconds
    pids: list[int] = []
    while time.monotonic() < deadline:
        for events in service.data_dir.glob(f"agent/jobs/{job}-*/events.jsonl"):  # the API would be too late
            pids = pids or service.workers()  # so would looking for it when it has come to the phase
            if pids and f'"phase":"{phase}' in events.read_text():
                os.kill(pids[0], signal.SIGSTOP)
                assert '"phase":"finish' not in events.read_text(), "the job was over before it could be hit"
                return pids[0]
        time.sleep(0.001)
    raise AssertionError(f"{job} did not come to {phase}: {service.job(job)}")


def no_new_data(service: Service, instance: dict[str, Any]) -> None:
    base = service.data_dir / "instances" / instance["id"]
    assert not [path.name for path in base.iterdir() if ".new-" in path.name]


def servers_of(service: Service) -> list[int]:
    """Every mysqld below the service's own directory, private ones of restores too."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                command = (entry / "cmdline").read_bytes()
                if command.split(b"\0")[0].endswith(b"mysqld") and str(service.data_dir).encode() in command:
                    found.append(int(entry.name))
    return found


@pytest.mark.parametrize("blow", BLOWS)
def test_killed_jobs_succeed_or_report_why_and_leave_no_partial_data(service: Service, blow: Callable[[Service], int]) -> None:
    one = database.create(service, "my1", ROWS)
    expected = database.sums(service, "my1")
    full = service.backup("my1", "undisturbed")
    for kind in (0, 1):
        job = hit(service, lambda k=kind: begin_backup(service, f"b{k}", incremental=k), 0.8, blow)
        assert job["status"] in ("succeeded", "failed"), job
    backups = service.get("/backups")["backups"]
    completed = [b for b in backups if b["status"] == "COMPLETED"]
    assert all(b["fault"]["message"] for b in backups if b["status"] != "COMPLETED")
    assert {name.split("/")[0] for name in service.objects("database_backups")} == {b["id"] for b in completed}

    # A restore of a chain; the old or the new, never a half
    database.execute(service, "my1", "UPDATE customers SET note = 'later' WHERE id % 5 = 0")
    child = service.backup("my1", "child", parent_id=full["id"])
    later = database.sums(service, "my1")
    database.execute(service, "my1", "CREATE TABLE after_it (id INT PRIMARY KEY)")
    old = database.sums(service, "my1")
    lasts = duration(service, lambda: in_place(service, child))
    assert database.sums(service, "my1") == later
    for moment in (0.5, 0.9):
        database.execute(service, "my1", "CREATE TABLE IF NOT EXISTS after_it (id INT PRIMARY KEY)")
        assert database.sums(service, "my1") == old
        job = hit(service, lambda: in_place(service, child), moment * lasts, blow)
        healthy(service)
        assert database.sums(service, "my1") == (later if job["status"] == "succeeded" else old), job
        no_new_data(service, one)
        service.wait(service.act("/instances/my1/action", {"discard_old": {}}))
    assert expected != later
    assert len(servers_of(service)) == 1  # the private servers of restores died with their workers


def test_the_server_dies_during_a_backup(service: Service) -> None:
    database.create(service, "my1", ROWS)
    expected = database.sums(service, "my1")
    server = database.pid(service, "my1")
    job = begin_backup(service, "b")
    worker = caught(service, job)
    os.kill(server, signal.SIGKILL)
    deadline = time.monotonic() + 90
    while Path(f"/proc/{server}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(worker, signal.SIGCONT)
    end = service.wait(job, expect="failed")
    backup = service.get(f"/backups/{end['backup_id']}")["backup"]
    assert backup["status"] == "FAILED"
    assert backup["fault"]["message"] and backup["fault"]["remedy"]
    assert service.objects("database_backups") == []
    healthy(service)
    assert database.sums(service, "my1") == expected
    assert backup_soon(service, "my1", "after")["status"] == "COMPLETED"


def test_a_dead_worker_leaves_no_lock_on_the_server(service: Service) -> None:
    """A copy takes the server's backup lock: DDL must not wait for a dead copy, and the next copy must begin immediately."""
    database.create(service, "my1", ROWS)
    job = begin_backup(service, "b")
    worker = caught(service, job)
    os.kill(worker, signal.SIGKILL)
    database.execute(service, "my1", "CREATE TABLE free (id INT PRIMARY KEY)", "DROP TABLE free")
    assert service.wait(job)["attempts"] == 2
    assert service.backup("my1", "after")["status"] == "COMPLETED"


def test_a_cancelled_backup_and_two_at_once(service: Service) -> None:
    one = database.create(service, "my1", ROWS)
    job = begin_backup(service, "b")
    worker = caught(service, job)
    with pytest.raises(Refused) as refused:
        begin_backup(service, "c")
    assert refused.value.status == 422
    service.call("DELETE", f"/jobs/{job}")
    resume_signalled(worker)
    service.wait(job, expect="cancelled")
    assert service.objects("database_backups") == []
    full = service.backup("my1", "full")
    database.execute(service, "my1", "CREATE TABLE after_it (id INT PRIMARY KEY)")
    old = database.sums(service, "my1")
    job = in_place(service, full)
    worker = caught(service, job, "extract")
    service.call("DELETE", f"/jobs/{job}")
    resume_signalled(worker)
    end = service.wait(job, expect=None)
    healthy(service)
    no_new_data(service, one)
    if end["status"] == "cancelled":
        assert database.sums(service, "my1") == old
    assert len(servers_of(service)) == 1
    assert backup_soon(service, "my1", "after")["status"] == "COMPLETED"


def test_purged_binary_logs_lead_to_a_full_with_the_reason(service: Service) -> None:
    database.create(service, "my1", 200)
    full = service.backup("my1", "full")
    database.execute(service, "my1", "UPDATE customers SET note = 'x'", "FLUSH BINARY LOGS", "DELETE FROM orders WHERE id < 9")
    database.execute(service, "my1", "FLUSH BINARY LOGS", "PURGE BINARY LOGS BEFORE NOW() + INTERVAL 1 DAY")
    view = service.backup("my1", "instead", incremental=1)
    assert (view["kind"], view["parent_id"]) == ("full", None)
    assert "purged" in view["reason"]
    with pytest.raises(Failed) as failed:
        service.backup("my1", "asked for", parent_id=full["id"])
    assert "purged" in failed.value.job["fault"]["message"]
    assert failed.value.job["fault"]["remedy"]


def test_damage_is_found_before_the_current_data_is_touched(service: Service) -> None:
    one = database.create(service, "my1", 3000)
    full = service.backup("my1", "full")
    database.execute(service, "my1", "UPDATE customers SET note = 'later' WHERE id % 2 = 0")
    child = service.backup("my1", "child", incremental=1)
    before = database.sums(service, "my1")
    for backup in (full, child):
        segment = min((service.data_dir / "store" / "database_backups" / backup["id"]).glob("0*"))
        whole = segment.read_bytes()
        broken = bytearray(whole)
        broken[len(whole) // 2] ^= 1
        segment.write_bytes(broken)
        with pytest.raises(Failed) as failed:
            service.wait(in_place(service, child))
        assert failed.value.job["fault"]["code"].startswith("Artifact")
        view = service.get("/instances/my1")["instance"]
        assert (view["status"], view["old_data"]) == ("ACTIVE", [])
        segment.write_bytes(whole)
    assert database.sums(service, "my1") == before
    no_new_data(service, one)
    service.wait(in_place(service, child))
    assert database.sums(service, "my1") == before
