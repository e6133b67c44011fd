"""A worker that is cancelled or killed in any phase leaves no process and nothing that looks like a backup."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.artifact import Writer, open_artifact, verify
from strongroom.datastores import Server, get
from strongroom.errors import Cancelled
from strongroom.worker._backup import back_up
from strongroom.worker._events import EventLog
from strongroom.worker.spec import InitializeJob, Job, Result, WorkerSpec
from support import jobs, mariadb, slow
from support.bucket import bucket
from support.jobs import WorkerProcess
from support.mariadb import MariaDBServer

driver = get("mariadb")

PHASES = {
    # phase: job, slow program, a word in its command line; or no program, and the backup whose data arrives slowly
    "copy": ("backup", "backup", "--backup"),
    "copy of an incremental": ("incremental", "backup", "--backup"),
    "extract": ("restore", None, "full"),
    "prepare": ("restore", "backup", "--prepare"),
    "extract incremental 1": ("restore", None, "inc"),
    "apply incremental 1": ("restore", "backup", "--incremental-dir"),
    "read": ("verify", None, "full"),
    "rehearsal": ("verify", "backup", "--prepare"),
    "initialize": ("initialize", "initialize", "--datadir"),
}


@pytest.fixture
def a(place: Path, pool: str) -> Iterator[MariaDBServer]:
    """A server with two backups in the store."""
    with mariadb.running(place, pool) as running:
        running.fill(100)
        backup(place, running.server, "full")
        backup(place, running.server, "inc", "full")
        yield running


def backup(place: Path, server: Server, id: str, parent: str | None = None) -> None:
    WorkerProcess(place, f"take-{id}", jobs.backup_job(place, server, id, parent), user=server.user, server=server).succeed()


@contextlib.contextmanager
def begun(place: Path, server: Server, phase: str) -> Iterator[WorkerProcess]:
    """A worker in this phase, whose program (or whose store) is slow."""
    kind, role, word = PHASES[phase]
    todo: dict[str, Job] = {
        "backup": jobs.backup_job(place, server, "new"),
        "incremental": jobs.backup_job(place, server, "new", "inc"),
        "restore": jobs.restore_job(place, "inc"),
        "verify": jobs.verify_job(place, "inc", prepare=True),
        "initialize": InitializeJob(),
    }
    if role is None:
        with bucket(place / "store", f"{jobs.CONTAINER}/{word}/{0:08d}") as late:
            job = todo[kind].model_copy(update={"storage": late.storage})
            worker = WorkerProcess(place, "met", job, user=server.user, server=server)
            worker.wait_until(lambda: late.asked.is_set() and worker.events()[-1].phase == phase)
            yield worker
        return
    worker = WorkerProcess(place, "met", todo[kind], user=server.user, server=slow.late(server, place, role, word))
    worker.wait_for_tool("/bin/bash", word)
    time.sleep(0.1)
    yield worker


def require_clean(place: Path, worker: WorkerProcess) -> None:
    """Wait until no tool of the worker runs."""
    deadline = time.monotonic() + 5
    while worker.tools():
        assert time.monotonic() < deadline, worker.tools()
        time.sleep(0.02)


def require_no_orphans(place: Path) -> None:
    assert {key.split("/")[1] for key in jobs.keys(jobs.open_place(place))} == {"full", "inc"}


@pytest.mark.parametrize("phase", PHASES)
def test_cancel(place: Path, a: MariaDBServer, phase: str) -> None:
    with begun(place, a.server, phase) as worker:
        began = time.monotonic()
        worker.interrupt()
        result = worker.wait()
        assert time.monotonic() - began < 15
    assert (result.status, result.failure and result.failure.code) == ("cancelled", "Cancelled"), worker.log.read_text()
    require_clean(place, worker)
    require_no_orphans(place)
    if worker.target is not None:
        with pytest.raises(Exception, match=r"unfinished|not prepared|no MariaDB"):
            driver.servers.check_data(a.server, worker.target)
    a.sql("CREATE DATABASE not_locked")
    backup(place, a.server, "after", "inc")


@pytest.mark.parametrize("phase", PHASES)
def test_kill(place: Path, a: MariaDBServer, phase: str) -> None:
    with begun(place, a.server, phase) as worker:
        worker.kill()
        require_clean(place, worker)
    assert not (worker.directory / "result.json").exists()
    if worker.target is not None:
        with pytest.raises(Exception, match=r"unfinished|not prepared|no MariaDB"):
            driver.servers.check_data(a.server, worker.target)
    a.sql("CREATE DATABASE not_locked")
    if phase.startswith("copy"):  # a new attempt removes what the killed one left
        backup(place, a.server, "new", "inc")
        keys = [key for key in jobs.keys(jobs.open_place(place)) if "/new/" in key]
        assert f"{jobs.CONTAINER}/new/manifest.json" in keys and f"{jobs.CONTAINER}/new/intent.json" not in keys


def test_a_signal_between_the_intent_and_the_copy_leaves_no_intent(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = mariadb.make(place, None, name="a").server
    work_dir, gid = place / "work", jobs.group()
    spec = WorkerSpec(id="new", job=InitializeJob(), server=server, user=server.user, work_dir=work_dir, store_gid=gid)
    open_writer = Writer.open

    def open_and_cancel(writer: Writer) -> None:
        open_writer(writer)
        raise Cancelled("the job was cancelled")

    monkeypatch.setattr(Writer, "open", open_and_cancel)
    with pytest.raises(Cancelled):
        back_up(spec, jobs.backup_job(place, server, "new"), EventLog(place / "events"))
    assert jobs.keys(jobs.open_place(place)) == []


def test_cancel_by_sigterm_of_the_worker_alone(place: Path, a: MariaDBServer) -> None:
    with begun(place, a.server, "prepare") as worker:
        os.kill(worker.process.pid, signal.SIGTERM)
        assert worker.wait().status == "cancelled"
        require_clean(place, worker)


def test_cancel_if_another_thread_gets_the_signal(place: Path, a: MariaDBServer) -> None:
    """The main thread waits for a lock and does not notice: as if the signal arrived right before it began to wait."""
    with begun(place, a.server, "extract") as worker:
        pid = worker.process.pid
        other = next(int(task) for task in os.listdir(f"/proc/{pid}/task") if int(task) != pid)  # noqa: PTH208
        assert ctypes.CDLL(None).tgkill(pid, other, signal.SIGINT) == 0
        assert worker.wait().status == "cancelled"


def test_backup_cancelled_or_killed_at_any_moment(place: Path, a: MariaDBServer) -> None:
    """No program is slow here: the signal may arrive in any phase, or after the end on a fast machine."""
    store = jobs.open_place(place)
    ends = []
    for number, delay in enumerate((0.1, 0.2, 0.3, 0.4, 0.5, 0.7)):
        id = f"new{number}"
        worker = WorkerProcess(place, id, jobs.backup_job(place, a.server, id), user=a.server.user, server=a.server)
        time.sleep(delay)
        os.killpg(worker.process.pid, signal.SIGKILL if number % 2 else signal.SIGINT)
        worker.process.wait(30)
        require_clean(place, worker)
        path = worker.directory / "result.json"
        ends.append(Result.model_validate_json(path.read_bytes()).status if path.exists() else "lost")
        keys = [key for key in jobs.keys(store) if key.startswith(f"{jobs.CONTAINER}/{id}/")]
        if ends[-1] == "cancelled":
            assert keys == []
        elif ends[-1] == "succeeded":
            assert verify(open_artifact(store, jobs.at(id))).ok
        backup(place, a.server, id)
    assert set(ends) - {"succeeded"}, ends
    b = mariadb.make(place, None, name="b")
    WorkerProcess(place, "r", jobs.restore_job(place, "new1"), user=a.server.user, server=b.server).succeed()
