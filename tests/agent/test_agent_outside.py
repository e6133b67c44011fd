"""Restores in place of servers that keep files outside their data directory: all of it comes from the backup, or all stays."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.errors import ConfigurationError, ServerFailed
from support.adopted import AdoptedMariaDB, back_up, prepare, restore
from support.agents import AgentMaker, until

OUTSIDE = ("redo", "undo", "aria", "home", "logs")
SETTINGS = """innodb_log_group_home_dir={base}/redo
innodb_undo_directory={base}/undo
innodb_undo_tablespaces=2
aria_log_dir_path={base}/aria
innodb_data_home_dir={base}/home
log_bin={base}/logs/own-bin
binlog_format=ROW"""
ROWS = 1000
TABLES = ("i", "a")


@pytest.fixture
def mariadb(place: Path) -> Iterator[AdoptedMariaDB]:
    server = AdoptedMariaDB(place, SETTINGS, OUTSIDE)
    try:
        server.sql("CREATE DATABASE db1", "CREATE TABLE db1.i (id INT PRIMARY KEY, t TEXT) ENGINE=InnoDB")
        server.sql("CREATE TABLE db1.a (id INT PRIMARY KEY, t TEXT) ENGINE=Aria", "CREATE TABLE db1.gone (id INT) ENGINE=InnoDB")
        for table in TABLES:
            server.sql(_rows(table, ROWS))
        yield server
    finally:
        server.end()


def _rows(table: str, upto: int) -> str:
    return (
        f"INSERT IGNORE INTO db1.{table} WITH RECURSIVE n AS (SELECT 1 id UNION ALL SELECT id + 1 FROM n WHERE id < {upto})"
        " SELECT id, REPEAT(MD5(id), 5) FROM n"
    )


def _sums(server: AdoptedMariaDB) -> list[tuple[str, int]]:
    return server.sql("CHECKSUM TABLE db1.i, db1.a, db1.gone, mysql.global_priv EXTENDED")


def _change(server: AdoptedMariaDB) -> None:
    """What the old logs would replay over restored files."""
    for table in TABLES:
        server.sql("SET max_recursive_iterations = 100000", _rows(table, 5 * ROWS))
    server.sql("DROP TABLE db1.gone", "CREATE USER later@localhost")


def _logs(server: AdoptedMariaDB) -> list[str]:
    return sorted(p.name for p in (server.base / "logs").iterdir())


def test_a_crashed_mariadb_is_restored_with_its_outside_directories(
    agents: AgentMaker, mariadb: AdoptedMariaDB, place: Path
) -> None:
    agent = agents(start_timeout=20)
    agent.servers.define("s1", mariadb.definition())
    back_up(agent, place, "s1", "full")
    before = _sums(mariadb)
    (mariadb.base / "logs" / "slow.log").write_text("of somebody else")
    modes = {name: (mariadb.base / name).stat() for name in OUTSIDE}
    _change(mariadb)
    mariadb.kill()

    view = restore(agent, place, "s1", "full", "r1")
    assert view.healthy and _sums(mariadb) == before
    assert mariadb.sql("SELECT COUNT(*) FROM db1.i") == [(ROWS,)]
    assert mariadb.sql("SHOW MASTER STATUS")[0][0] == "own-bin.000001"
    assert {"slow.log", "own-bin.000001", "own-bin.index"} <= set(_logs(mariadb))
    for name in OUTSIDE:
        now = (mariadb.base / name).stat()
        assert (now.st_ino, stat.S_IMODE(now.st_mode), now.st_uid) == (modes[name].st_ino, 0o750, modes[name].st_uid)
        assert str(mariadb.base / f"{name}.old-r1") in [old.name for old in view.old_data]
    assert {"undo001", "undo002"} <= {path.name for path in (mariadb.base / "undo.old-r1").iterdir()}
    assert not any((mariadb.data / name).exists() for name in ("ib_logfile0", "undo001", "aria_log_control", "ibdata1"))

    # One that does not come up gives way to all of the old.
    _change(mariadb)
    changed = _sums(mariadb)
    prepare(agent, place, "s1", "full", "r2")
    with (mariadb.base / "home.new-r2" / "ibdata1").open("r+b") as file:
        file.write(b"\0" * (1 << 20))
    with pytest.raises(ServerFailed, match="the old data is back and serves"):
        agent.servers.swap("s1", "r2")
    assert _sums(mariadb) == changed
    assert mariadb.sql("CHECK TABLE db1.i EXTENDED")[-1][-1] == "OK"
    assert sorted(p.name for p in mariadb.base.glob("*.*-r2")) == sorted(f"{name}.failed-r2" for name in ("data", *OUTSIDE))

    assert agent.servers.discard_old("s1").old_data == []
    assert not list(mariadb.base.glob("*.*-r?"))


def test_what_cannot_be_swapped_is_refused_before_the_restore(agents: AgentMaker, mariadb: AdoptedMariaDB, place: Path) -> None:
    agent = agents(start_timeout=20)
    agent.servers.define("s1", mariadb.definition())
    back_up(agent, place, "s1", "full")
    pid = (mariadb.base / "pid").read_text()
    undo = mariadb.base / "undo"
    if os.geteuid() == 0:
        shutil.chown(undo, 0)
        with pytest.raises(ConfigurationError, match=rf"{undo} \(innodb_undo_directory\).* is not a directory of the OS user"):
            prepare(agent, place, "s1", "full", "r1")
        shutil.chown(undo, mariadb.user)
    assert not list(mariadb.base.glob("*.new-*"))

    # A job that was prepared for other directories is not swapped in.
    prepare(agent, place, "s1", "full", "r2")
    mariadb.options.write_text(mariadb.options.read_text().replace(f"log_bin={mariadb.base}/logs/own-bin", "log_bin=own-bin"))
    mariadb.kill()
    mariadb.serve()
    with pytest.raises(ConfigurationError, match="in other directories now than when job r2 began"):
        agent.servers.swap("s1", "r2")
    assert (mariadb.base / "pid").read_text() != pid and mariadb.sql("SELECT COUNT(*) FROM db1.i") == [(ROWS,)]
    agent.jobs.cancel("r2")
    assert not list(mariadb.base.glob("*.new-*"))


def test_the_places_of_a_server_that_was_down_are_remembered(agents: AgentMaker, mariadb: AdoptedMariaDB, place: Path) -> None:
    agent = agents(start_timeout=20)
    agent.servers.define("s1", mariadb.definition())
    back_up(agent, place, "s1", "full")
    before = _sums(mariadb)
    _change(mariadb)
    mariadb.kill()
    agent.stop()
    again = agents(start_timeout=20)
    until(lambda: again.servers.ids() == ["s1"])
    restore(again, place, "s1", "full", "r1")
    assert _sums(mariadb) == before


def test_a_backup_that_waits_for_a_lock_ends(agents: AgentMaker, mariadb: AdoptedMariaDB, place: Path) -> None:
    agent = agents(stall_timeout=4)
    agent.servers.define("s1", mariadb.definition())
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLES db1.i WRITE")
        view = back_up(agent, place, "s1", "full", good=False)
    assert view.status == "failed" and view.result is not None and view.result.failure is not None
    assert "made no progress for" in view.result.failure.message and "BACKUP STAGE" in view.result.failure.message
    assert "stall_timeout" in view.result.failure.remedy
    back_up(agent, place, "s1", "again")
