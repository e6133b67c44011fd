"""Backups are taken, or refused, or fail with a reason. What they hold is proven by the tests of restore."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from strongroom.artifact import Positions
from strongroom.datastores import BackupRequest, Server, get
from strongroom.errors import ConfigurationError, LineageChanged, ServerFailed, ToolFailed, VersionMismatch
from support import mariadb, processes, slow
from support.identity import run_as, server_user
from support.load import Writer
from support.mariadb import MariaDBServer
from support.sessions import pieces

driver = get("mariadb")
SECRET = "Sup3r#s'ecret\""


def attempt(running: MariaDBServer, place: Path, **changes: object) -> None:
    """Take a full backup of the server as changed."""
    server = running.server.model_copy(update=changes)
    work_dir = mariadb.scratch(place, "attempt", server.user)
    run_as(server.user, mariadb.take, server, "full", None, work_dir, work_dir / "stream")


def test_positions_follow_each_other(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        a.fill(200)
        with Writer(a.connect):
            full = mariadb.backup(a, place, "full")
            time.sleep(0.2)
            first = mariadb.backup(a, place, "first", full)
        assert full.positions.from_lsn == 0
        assert first.positions.from_lsn == full.positions.to_lsn
        assert (full.positions.last_lsn or 0) < (first.positions.last_lsn or 0)
        assert full.positions.binlog_file == first.positions.binlog_file == "binlog.000001"
        assert 0 < (full.positions.binlog_position or 0) < (first.positions.binlog_position or 0)
        assert full.positions.gtid != first.positions.gtid
        assert full.positions.galera is None
        assert full.server_version == a.server.version.number
        assert full.raw_size > 12_000_000
        assert 0.5 < full.raw_size / full.data_size < 1.5
        assert first.raw_size < full.raw_size


def test_no_password_where_others_can_read_it(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        a.sql("CREATE USER boss@localhost IDENTIFIED BY %s", SECRET)
        a.sql("GRANT ALL ON *.* TO boss@localhost")
        credentials = a.server.base_dir / "boss.cnf"
        from strongroom.datastores.innodb.options import format_options

        credentials.write_text(format_options("client", {"user": "boss", "password": SECRET}))
        os.chown(credentials, a.server.base_dir.stat().st_uid, -1)
        work_dir = mariadb.scratch(place, "work")
        adopted = a.server.model_copy(update={"runtime": "adopted", "credentials_file": credentials})
        commands = run_as(server_user(), _watch, adopted, work_dir, place)
        assert any("--backup" in command for command in commands)
        for command in commands:
            assert SECRET not in command
        for path in work_dir.rglob("*"):
            if path.is_file() and path.name != "backup.cnf":
                assert SECRET not in path.read_text(errors="replace")
        assert (work_dir / "backup.cnf").stat().st_mode & 0o777 == 0o600


def _watch(server: Server, work_dir: Path, place: Path) -> list[str]:
    session = driver.backups.begin(server, BackupRequest("full", None, work_dir))
    seen: list[str] = []
    for _ in pieces(session.stdout):
        seen += [*processes.below(place).values(), *_environments()]
    session.finish()
    return seen


def _environments() -> list[str]:
    """Environments of our child processes."""
    found = []
    for pid in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split():
        try:
            found.append(Path(f"/proc/{pid}/environ").read_text(errors="replace"))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", ["10.11.1", "10.6.99", "11.4.2"])
def test_a_tool_of_another_version_is_refused(place: Path, pool: str, number: str) -> None:
    with mariadb.running(place, pool) as a:
        other = slow.other_version(a.server, place, number)
        with pytest.raises(VersionMismatch, match=rf"is version {number}, but the server a is MariaDB 10.11") as caught:
            attempt(a, place, version=other.version)
        assert "Install mariadb-backup" in caught.value.remedy


def test_a_later_tool_of_the_series_is_accepted(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        attempt(a, place, version=slow.other_version(a.server, place, "10.11.99").version)


def test_files_must_belong_to_the_server(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a, mariadb.running(place, pool, name="b", number=2) as b:
        with pytest.raises(ConfigurationError, match="does not use"):
            attempt(a, place, data_dir=b.data_dir)
        copy = mariadb.make(place, pool, name="c", number=3)
        with pytest.raises(ConfigurationError, match="does not use"):
            attempt(a, place, data_dir=copy.data_dir)
        with pytest.raises(ConfigurationError, match="does not exist on this host"):
            attempt(a, place, data_dir=place / "none")


@pytest.mark.root
def test_another_user_cannot_read_the_data(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        a.sql("CREATE USER nobody@localhost IDENTIFIED VIA unix_socket")
        a.sql("GRANT ALL ON *.* TO nobody@localhost")
        a.server.base_dir.chmod(0o711)
        (a.server.base_dir / "run").chmod(0o711)
        with pytest.raises(ConfigurationError, match="cannot be read by the OS user nobody"):
            attempt(a, place, user="nobody", runtime="adopted")


def test_a_stopped_server_is_not_backed_up(place: Path, pool: str) -> None:
    a = mariadb.make(place, pool)
    driver.servers.configure(a.server)
    with pytest.raises(ServerFailed, match="does not answer"):
        attempt(a, place)


def test_an_incremental_requires_the_same_history(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        work_dir = mariadb.scratch(place, "work")
        for parent, error in (
            (Positions(to_lsn=10**12), LineageChanged),
            (Positions(), ConfigurationError),
            (None, ConfigurationError),
        ):
            with pytest.raises(error):
                run_as(server_user(), mariadb.take, a.server, "incremental", parent, work_dir, work_dir / "stream")
        assert not processes.below(work_dir)


def test_a_server_that_dies_during_a_backup(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        work_dir = mariadb.scratch(place, "work")
        assert a.process is not None
        with pytest.raises(ServerFailed, match="the server died during the backup"):
            run_as(server_user(), _kill_in_the_middle, a.server, work_dir, a.process.pid)


def _kill_in_the_middle(server: Server, work_dir: Path, pid: int) -> None:
    session = driver.backups.begin(server, BackupRequest("full", None, work_dir))
    try:
        next(pieces(session.stdout, 1))
        os.kill(pid, 9)
        for _ in pieces(session.stdout):
            pass
        session.finish()
    finally:
        session.abort()


def test_a_tool_that_dies_during_a_backup(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        work_dir = mariadb.scratch(place, "work")
        with pytest.raises(ToolFailed, match="mariadb-backup was killed by SIGKILL"):
            run_as(server_user(), _kill_tool, a.server, work_dir)


def _kill_tool(server: Server, work_dir: Path) -> None:
    session = driver.backups.begin(server, BackupRequest("full", None, work_dir))
    try:
        next(pieces(session.stdout, 1))
        os.kill(session._tool.pid, 9)  # type: ignore[attr-defined]
        for _ in pieces(session.stdout):
            pass
        session.finish()
    finally:
        session.abort()


def test_abort_leaves_nothing_running_and_no_lock(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as a:
        work_dir = mariadb.scratch(place, "work")
        run_as(server_user(), _abort, a.server, work_dir)
        assert not processes.below(work_dir)
        a.sql("CREATE DATABASE still_works")
        mariadb.backup(a, place, "again")


def _abort(server: Server, work_dir: Path) -> None:
    session = driver.backups.begin(server, BackupRequest("full", None, work_dir))
    next(pieces(session.stdout, 1))
    session.abort()
    session.abort()
