"""The faults of a backup and of a restore, on PostgreSQL: killed, stopped, cancelled, no space, no rights, damage."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support import processes
from support.databases import POSTGRESQL as database
from support.faults import (
    backup_soon,
    duration,
    hit,
    kill_everything,
    kill_service,
    kill_workers,
    one_tool_at_a_time,
    resume_signalled,
)
from support.service import Failed, Refused, Service

BLOWS = [kill_workers, kill_service, kill_everything]
ROWS = 12000
"""Some 60 MB of WAL and data: a backup takes long enough to be hit."""


@pytest.fixture
def moments(request: pytest.FixtureRequest) -> list[float]:
    """Fractions of a job's duration at which it is killed: one, or twelve with --soak."""
    count = 12 if request.config.getoption("--soak") else 1
    return [(n + 0.5) / count for n in range(count)]


def begin_backup(service: Service, name: str, **fields: object) -> str:
    response = service.call("POST", "/backups", {"backup": {"name": name, "instance": "pg1", **fields}})
    return response.headers["Strongroom-Job"]


def in_place(service: Service, backup: dict[str, Any]) -> str:
    return service.act("/instances/pg1/action", {"restore": {"backupRef": backup["id"]}})


def healthy(service: Service, seconds: float = 90) -> None:
    """Wait until the instance serves again, by its own word too: what the service says may be a few seconds old."""
    deadline = time.monotonic() + seconds
    while True:
        view = service.get("/instances/pg1")["instance"]
        if view["operating_status"] == "HEALTHY":
            with contextlib.suppress(psycopg.OperationalError):
                database.execute(service, "pg1", "SELECT 1")
                return
        assert time.monotonic() < deadline, view
        time.sleep(0.2)


def caught(service: Service, one: dict[str, Any]) -> tuple[str, int]:
    """A backup that is reading files, and its worker, which is suspended. A backup that was too fast is deleted."""
    for _ in range(10):
        job = begin_backup(service, "b")
        if (worker := _stopped(service, one, job)) is not None:
            return job, worker
        backup = service.wait(job)["backup_id"]
        service.wait(service.call("DELETE", f"/backups/{backup}", now="true").headers["Strongroom-Job"])
    raise AssertionError("every backup was over before it could be hit")


def _stopped(service: Service, one: dict[str, Any], job: str, seconds: float = 60) -> int | None:
    begun = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle' AND query LIKE '%pg_backup_start%'"
    deadline = time.monotonic() + seconds
    with psycopg.connect(host=str(Path(one["socket"]).parent), user="postgres", dbname="postgres", autocommit=True) as connection:
        while not (found := service.workers()):
            if service.job(job)["status"] not in ("queued", "running"):
                return None
        while not connection.execute(begun).fetchall():
            assert time.monotonic() < deadline, "the backup has not begun"
            if not service.workers():
                return None
        os.kill(found[0], signal.SIGSTOP)
        if connection.execute(begun).fetchall():
            return found[0]
        os.kill(found[0], signal.SIGCONT)
    return None


def no_new_data(service: Service, instance: dict[str, Any]) -> None:
    base = service.data_dir / "instances" / instance["id"]
    assert not [path.name for path in base.iterdir() if ".new-" in path.name]


@pytest.mark.parametrize("blow", BLOWS)
def test_killed_jobs_succeed_or_report_why_and_leave_no_partial_data(
    service: Service, blow: Callable[[Service], int], moments: list[float]
) -> None:
    one = database.create(service, "pg1", ROWS)
    expected = database.sums(service, "pg1")
    full = service.backup("pg1", "undisturbed")
    with one_tool_at_a_time(service.place) as wrong:
        for number, moment in enumerate(moments):
            for kind in (0, 1):
                name = f"b{number}{kind}"
                job = hit(service, lambda n=name, k=kind: begin_backup(service, n, incremental=k), 0.3 + moment, blow)
                assert job["status"] in ("succeeded", "failed"), job
        backups = service.get("/backups")["backups"]
        completed = [b for b in backups if b["status"] == "COMPLETED"]
        assert all(b["fault"]["message"] for b in backups if b["status"] != "COMPLETED")
        assert {name.split("/")[0] for name in service.objects("database_backups")} == {b["id"] for b in completed}
        newest = max(completed, key=lambda b: b["finished"])
        job = hit(
            service,
            lambda: service.call(
                "POST", "/instances", {"instance": {"name": "pg2", "restorePoint": {"backupRef": newest["id"]}}}
            ).headers["Strongroom-Job"],
            0.7,
            blow,
        )
        assert job["status"] == "succeeded", job
        assert database.sums(service, "pg2") == expected

        database.execute(service, "pg1", "CREATE TABLE after (id int)")
        old = database.sums(service, "pg1")
        lasts = duration(service, lambda: in_place(service, full))
        for moment in (*moments, 0.95):
            database.execute(service, "pg1", "CREATE TABLE IF NOT EXISTS after (id int)")
            assert database.sums(service, "pg1") == old
            job = hit(service, lambda: in_place(service, full), moment * lasts, blow)
            healthy(service)
            assert database.sums(service, "pg1") == (expected if job["status"] == "succeeded" else old), job
            no_new_data(service, one)
            service.wait(service.act("/instances/pg1/action", {"discard_old": {}}))
    assert wrong == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGQUIT], ids=lambda how: how.name)
def test_the_server_stops_during_a_backup(service: Service, how: signal.Signals) -> None:
    """Killed, stopped cleanly (fast shutdown), stopped immediately."""
    one = database.create(service, "pg1", ROWS)
    expected = database.sums(service, "pg1")
    server = database.pid(service, "pg1")
    job, worker = caught(service, one)
    os.kill(server, how)
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
    assert backup["id"] in service.get("/instances/pg1")["instance"]["fault"]["message"]
    assert database.sums(service, "pg1") == expected
    assert backup_soon(service, "pg1", "after")["status"] == "COMPLETED"


def test_a_cancelled_backup_and_two_at_once(service: Service) -> None:
    one = database.create(service, "pg1", ROWS)
    job, worker = caught(service, one)
    with pytest.raises(Refused) as refused:
        begin_backup(service, "c")
    assert refused.value.status == 422
    with pytest.raises(Refused) as refused:
        service.call("DELETE", f"/backups/{service.job(job)['backup_id']}")
    assert refused.value.status == 422
    service.call("DELETE", f"/jobs/{job}")
    resume_signalled(worker)
    service.wait(job, expect="cancelled")
    assert not Path(f"/proc/{worker}").exists()
    assert service.objects("database_backups") == []
    full = service.backup("pg1", "full")
    database.execute(service, "pg1", "CREATE TABLE after (id int)")
    old = database.sums(service, "pg1")
    lasts = duration(service, lambda: begin_backup(service, "another"))
    for moment in (0.0, 0.2, 0.4):
        job = in_place(service, full)
        time.sleep(moment * lasts)
        service.call("DELETE", f"/jobs/{job}")
        end = service.wait(job, expect=None)
        healthy(service)
        no_new_data(service, one)
        if end["status"] != "cancelled":
            break
        assert database.sums(service, "pg1") == old
    assert backup_soon(service, "pg1", "after")["status"] == "COMPLETED"
    slots = "SELECT slot_name FROM pg_replication_slots WHERE temporary"
    with psycopg.connect(host=str(Path(one["socket"]).parent), user="postgres", dbname="db1") as connection:
        assert connection.execute(slots).fetchall() == []


@pytest.fixture
def mounted(place: Path) -> Iterator[Callable[..., Path]]:
    """Small file systems."""
    tops: list[Path] = []

    def mount(top: Path, size: str, mode: str = "2770") -> Path:
        top.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode={mode}", "tmpfs", str(top)], check=True)
        tops.append(top)
        return top

    yield mount
    processes.end(place)
    for top in tops:
        subprocess.run(["umount", "-l", str(top)], check=True)


@pytest.mark.root
def test_a_store_without_space_or_rights(serve: Callable[..., Service], place: Path, mounted: Callable[..., Path]) -> None:
    store = mounted(place / "store", "4m")
    service = serve(config=f'[storage]\npath = "{store}"\n[artifact]\nsegment_size = 1048576\n')
    database.create(service, "pg1", ROWS)
    with pytest.raises(Failed) as failed:
        service.backup("pg1", "b")
    assert failed.value.job["fault"]["code"] == "StorageFull"
    assert [path for path in store.rglob("*") if path.is_file()] == []
    subprocess.run(["mount", "-o", "remount,size=512m,ro", str(store)], check=True)
    with pytest.raises(Failed) as failed:
        service.backup("pg1", "c")
    assert failed.value.job["fault"]["code"] == "StorageDenied"
    subprocess.run(["mount", "-o", "remount,rw", str(store)], check=True)
    assert service.backup("pg1", "d")["status"] == "COMPLETED"
    assert "fault" not in service.get("/instances/pg1")["instance"]


@pytest.mark.root
def test_a_file_that_cannot_be_read(service: Service) -> None:
    one = database.create(service, "pg1", 200)
    database.execute(service, "pg1", "CHECKPOINT")  # what a server cannot sync ends it
    data = service.data_dir / "instances" / one["id"] / "data"
    table = max((path for path in (data / "base").rglob("*") if path.name.isdigit()), key=lambda path: int(path.name))
    owner = table.stat()
    os.chown(table, 0, 0)
    with pytest.raises(Failed) as failed:
        service.backup("pg1", "b")
    assert str(table.relative_to(data)) in failed.value.job["fault"]["message"]
    assert service.objects("database_backups") == []
    os.chown(table, owner.st_uid, owner.st_gid)
    assert service.backup("pg1", "b2")["status"] == "COMPLETED"


@pytest.mark.root
def test_a_disk_of_the_database_that_is_full(serve: Callable[..., Service], place: Path, mounted: Callable[..., Path]) -> None:
    """``pg_wal`` cannot grow: the server stops. Committed data is available when there is space again."""
    disk = mounted(place / "d" / "instances", "700m", "711")
    service = serve()
    database.create(service, "pg1", 200)
    expected = database.sums(service, "pg1")
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free - (8 << 20))
    with pytest.raises(psycopg.Error):
        database.execute(service, "pg1", "CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 300000)")
        database.execute(service, "pg1", "CREATE TABLE big2 AS SELECT repeat('x', 1000) FROM generate_series(1, 300000)")
    with pytest.raises((Failed, Refused)):
        service.backup("pg1", "no space")
    ballast.unlink()
    healthy(service)
    assert {name: sums for name, sums in database.sums(service, "pg1").items() if name in expected} == expected
    assert backup_soon(service, "pg1", "after")["status"] == "COMPLETED"


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, Callable[[list[Path]], object]] = {
    "flipped": lambda segments: damage(segments[1]),
    "cut": lambda segments: os.truncate(segments[1], segments[1].stat().st_size // 2),
    "missing": lambda segments: segments[-1].unlink(),
    "swapped": lambda segments: (
        segments[0].rename(segments[0].with_name("x")),
        segments[1].rename(segments[0]),
        segments[0].with_name("x").rename(segments[1]),
    ),
}


def test_damage_is_found_before_the_current_data_is_touched(service: Service) -> None:
    one = database.create(service, "pg1", 3000)
    full = service.backup("pg1", "full")
    database.execute(service, "pg1", "UPDATE customers SET note = 'later' WHERE id % 2 = 0")
    child = service.backup("pg1", "child", incremental=1)
    before = database.sums(service, "pg1")
    store = service.data_dir / "store" / "database_backups"
    copy = service.place / "copy"
    subprocess.run(["cp", "-a", str(store), str(copy)], check=True)
    for what, harm in DAMAGE.items():
        harm(sorted((store / full["id"]).glob("0*")))
        with pytest.raises(Failed) as failed:
            service.wait(service.act(f"/backups/{full['id']}/action", {"verify": {"prepare": False}}))
        assert failed.value.job["fault"]["code"].startswith("Artifact"), what
        with pytest.raises(Failed) as failed:
            service.wait(in_place(service, child))
        assert failed.value.job["fault"]["code"].startswith("Artifact"), what
        view = service.get("/instances/pg1")["instance"]
        assert (view["status"], view["old_data"]) == ("ACTIVE", []), what
        subprocess.run(["rm", "-rf", str(store)], check=True)
        subprocess.run(["cp", "-a", str(copy), str(store)], check=True)
    assert database.sums(service, "pg1") == before
    no_new_data(service, one)
    service.wait(in_place(service, child))
    assert database.sums(service, "pg1") == before
