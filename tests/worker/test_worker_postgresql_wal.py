"""A worker that is cancelled or killed while it checks or replays WAL leaves no process and no data that looks usable."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.datastores import Server, get
from strongroom.errors import ServerFailed
from support import jobs, postgresql, slow
from support.jobs import WorkerProcess
from support.postgresql import PostgreSQLServer, checksums, fill

driver = get("postgresql")


def backup(place: Path, server: Server, id: str, parent: str | None = None) -> None:
    WorkerProcess(place, f"take-{id}", jobs.backup_job(place, server, id, parent), user=server.user, server=server).succeed()


@pytest.fixture
def a(place: Path) -> Iterator[PostgreSQLServer]:
    """A server with a full and an incremental in the store."""
    with postgresql.running(place) as running:
        with running.connect("postgres") as connection:
            fill(connection, 50)
        backup(place, running.server, "full")
        running.sql("CREATE TABLE later AS SELECT 1 AS id", "postgres")
        backup(place, running.server, "inc", "full")
        yield running


def late(a: PostgreSQLServer, place: Path, phase: str) -> tuple[WorkerProcess, str]:
    """A worker with a slow program, and a word in the command line of that program."""
    if phase == "recover":
        server = slow.late(a.server, place, "server", "--single")
        job = jobs.restore_job(place, "inc").model_copy(update={"datastore": "postgresql"})
        return WorkerProcess(place, "met", job, user=server.user, server=server), "--single"
    word = "--rmgr=Tablespace"
    real = a.server.version.programs["server"].with_name("pg_waldump")
    server = slow.with_program(a.server, "server", real)  # it is searched for in the directory of the server
    server = slow.with_program(slow.late(server, place, "server", word), "server", place / "postgres")
    return WorkerProcess(place, "met", jobs.backup_job(place, server, "new", "inc"), user=server.user, server=server), word


@pytest.mark.parametrize("how", ["cancel", "kill"])
@pytest.mark.parametrize("phase", ["recover", "check"])
def test_cancel_and_kill(place: Path, a: PostgreSQLServer, phase: str, how: str) -> None:
    worker, word = late(a, place, phase)
    worker.wait_for_tool("/bin/bash", word)
    if how == "kill":
        worker.kill()
        assert not (worker.directory / "result.json").exists()
    else:
        worker.interrupt()
        result = worker.wait()
        assert (result.status, result.failure and result.failure.code) == ("cancelled", "Cancelled"), worker.log.read_text()
    deadline = time.monotonic() + 60
    while worker.tools():
        assert time.monotonic() < deadline, worker.tools()
        time.sleep(0.02)
    if worker.target is not None:
        with pytest.raises(ServerFailed, match="unfinished"):
            driver.servers.check_data(a.server, worker.target)
    elif how == "cancel":
        assert not [key for key in jobs.keys(jobs.open_place(place)) if "/new/" in key]
    # The next backup works as usual.
    backup(place, a.server, "new", "inc")
    job = jobs.restore_job(place, "new").model_copy(update={"datastore": "postgresql"})
    again = WorkerProcess(place, "again", job, user=a.server.user, server=a.server)
    output = again.succeed()
    assert output["chain"] == ["full", "inc", "new"]
    with a.connect("postgres") as connection:
        expected = checksums(connection)
    a.end()
    assert again.target is not None
    restored = a.server.model_copy(update={"data_dir": again.target})
    with postgresql.started(restored) as b, b.connect("postgres") as connection:
        assert checksums(connection) == expected
