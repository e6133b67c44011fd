"""Restores in place of servers that keep files outside their data directory: all of it comes from the backup, or all stays."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.agent.swap.swap import beside
from strongroom.errors import ConfigurationError, ServerFailed
from support.adopted import AdoptedMariaDB, back_up, definition_of, prepare, restore
from support.agents import AgentMaker, until
from support.mysql_programs import programs as mysql_programs
from support.own_mysql import OwnMySQL
from support.own_postgresql import OwnPostgreSQL
from support.postgresql import version as postgresql_version

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
def mariadb(place: Path, request: pytest.FixtureRequest) -> Iterator[AdoptedMariaDB]:
    server = AdoptedMariaDB(place, SETTINGS, OUTSIDE, getattr(request, "param", ()))
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
        " SELECT id, REPEAT(CONCAT(id, id * 7919), 9) FROM n"
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


def test_crashed_mariadb_is_restored_with_its_outside_directories(
    agents: AgentMaker, mariadb: AdoptedMariaDB, place: Path
) -> None:
    agent = agents(start_timeout=20)
    agent.servers.define("s1", mariadb.definition())
    back_up(agent, place, "s1", "full")
    before = _sums(mariadb)
    (mariadb.base / "logs" / "slow.log").write_text("of somebody else")
    theirs = [mariadb.base / f"redo.{what}-somebody" for what in ("new", "old", "failed")]
    for path in theirs:
        path.mkdir()
    (mariadb.data / "server-key.pem").write_bytes(b"\xff\x00 secret")
    (mariadb.data / "server-key.pem").chmod(0o400)
    (mariadb.data / "conf.d").mkdir()
    (mariadb.data / "conf.d" / "own.cnf").write_text("[mysqld]")
    modes = {name: (mariadb.base / name).stat() for name in OUTSIDE}
    _change(mariadb)
    mariadb.kill()

    # Where its files are was asked before, and is remembered.
    agent.stop()
    agent = agents(start_timeout=20)
    view = restore(agent, place, "s1", "full", "r1")
    assert view.healthy and _sums(mariadb) == before
    key = mariadb.data / "server-key.pem"
    assert (key.read_bytes(), stat.S_IMODE(key.stat().st_mode)) == (b"\xff\x00 secret", 0o400)
    assert (mariadb.data / "conf.d" / "own.cnf").read_text() == "[mysqld]"
    assert any("kept from the previous data directory" in each and "server-key.pem" in each for each in view.restore_warnings)
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
    with pytest.raises(ServerFailed, match="the previous data is back and serves"):
        agent.servers.swap("s1", "r2")
    assert _sums(mariadb) == changed
    assert mariadb.sql("CHECK TABLE db1.i EXTENDED")[-1][-1] == "OK"
    assert str(theirs[1]) not in [old.name for old in agent.servers.view("s1").old_data]
    assert sorted(p.name for p in mariadb.base.glob("*.*-r2")) == sorted(f"{name}.failed-r2" for name in ("data", *OUTSIDE))

    assert agent.servers.discard_old("s1").old_data == []
    assert not list(mariadb.base.glob("*.*-r?")) and all(path.is_dir() for path in theirs)


@pytest.mark.root
@pytest.mark.parametrize("mariadb", [("redo", "undo")], indirect=True)
def test_a_directory_that_is_a_mount_point_is_swapped_inside(agents: AgentMaker, mariadb: AdoptedMariaDB, place: Path) -> None:
    agent = agents(start_timeout=20)
    agent.servers.define("s1", mariadb.definition())
    back_up(agent, place, "s1", "full")
    before = _sums(mariadb)
    _change(mariadb)
    changed = _sums(mariadb)
    prepare(agent, place, "s1", "full", "r1")
    assert {"undo001", "undo002"} <= {p.name for p in (mariadb.base / "undo" / "strongroom.new-r1").iterdir()}
    with (mariadb.base / "home.new-r1" / "ibdata1").open("r+b") as file:
        file.write(b"\0" * (1 << 20))
    with pytest.raises(ServerFailed, match="the previous data is back and serves"):
        agent.servers.swap("s1", "r1")
    assert _sums(mariadb) == changed

    mariadb.kill()
    view = restore(agent, place, "s1", "full", "r2")
    assert _sums(mariadb) == before and (mariadb.base / "redo").is_mount()
    assert str(mariadb.base / "undo" / "strongroom.old-r2") in [old.name for old in view.old_data]
    assert agent.servers.discard_old("s1").old_data == []
    assert not list((mariadb.base / "undo").glob("strongroom.*"))


def test_waiting_start_is_ended_and_impossible_swap_is_refused(agents: AgentMaker, mariadb: AdoptedMariaDB, place: Path) -> None:
    # A backup that waits for a lock of another session ends.
    agent = agents(start_timeout=20, stall_timeout=4)
    agent.servers.define("s1", mariadb.definition())
    with mariadb.connect() as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLES db1.i WRITE")
        view = back_up(agent, place, "s1", "waits", good=False)
    assert view.status == "failed" and view.result is not None and view.result.failure is not None
    assert "made no progress for" in view.result.failure.message and "BACKUP STAGE" in view.result.failure.message
    assert "stall_timeout" in view.result.failure.remedy

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
    with pytest.raises(ConfigurationError, match="in other directories than when job r2 began"):
        agent.servers.swap("s1", "r2")
    assert (mariadb.base / "pid").read_text() != pid and mariadb.sql("SELECT COUNT(*) FROM db1.i") == [(ROWS,)]
    agent.jobs.cancel("r2")
    assert not list(mariadb.base.glob("*.new-*"))


def test_a_postgresql_with_its_wal_elsewhere_keeps_link_and_modes(agents: AgentMaker, place: Path) -> None:
    own = OwnPostgreSQL(place, initdb=["-X", str(place / "own" / "wal"), "--allow-group-access"])
    try:
        own.sql("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS x FROM generate_series(1, 1000) g")
        agent = agents(start_timeout=20)
        agent.servers.define("s1", definition_of(own, "postgresql", postgresql_version().series, own.run / ".s.PGSQL.5432"))
        back_up(agent, place, "s1", "full")
        sums = "SELECT count(*), md5(string_agg(id || x, ',' ORDER BY id)) FROM t"
        before = own.sql(sums)
        wal = own.base / "wal"
        inode = wal.stat().st_ino
        own.sql("INSERT INTO t SELECT g, 'later' FROM generate_series(1001, 30000) g")
        own.command("pg_ctl", "stop", "-m", "immediate", "-D", own.data)

        view = restore(agent, place, "s1", "full", "r1")
        assert view.healthy and own.sql(sums) == before
        assert (own.data / "pg_wal").is_symlink() and (own.data / "pg_wal").readlink() == wal and wal.stat().st_ino == inode
        assert stat.S_IMODE(own.data.stat().st_mode) == 0o750
        assert {stat.S_IMODE(p.stat().st_mode) for p in (own.data / "base").rglob("*") if p.is_file()} == {0o640}
        assert str(own.base / "wal.old-r1") in [old.name for old in view.old_data]
        assert any(len(p.name) == 24 for p in (own.base / "wal.old-r1").iterdir())

        own.sql("INSERT INTO t SELECT g, 'later' FROM generate_series(1001, 2000) g")
        changed = own.sql(sums)
        prepare(agent, place, "s1", "full", "r2")
        (beside(own.data, "new", "r2") / "global" / "pg_control").write_bytes(bytes(8192))
        with pytest.raises(ServerFailed, match="the previous data is back and serves"):
            agent.servers.swap("s1", "r2")
        assert own.sql(sums) == changed and (own.data / "pg_wal").readlink() == wal
        assert agent.servers.discard_old("s1").old_data == []
        assert sorted(p.name for p in own.base.iterdir() if p.is_dir()) == ["data", "run", "wal"]
    finally:
        own.end()


MYSQL = """innodb_undo_directory={base}/undo
innodb_log_group_home_dir={base}/redo
innodb_doublewrite_dir={base}/dblwr
log_bin={base}/logs/own
gtid_mode=ON
enforce_gtid_consistency=ON"""


def test_a_mysql_with_undo_and_redo_elsewhere_is_restored(
    agents: AgentMaker, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = ("undo", "redo", "dblwr", "logs")
    own = OwnMySQL(place, settings=MYSQL, outside=outside)
    try:
        own.sql("INSTALL PLUGIN clone SONAME 'mysql_clone.so'", "CREATE DATABASE db1")
        own.sql("USE db1", "CREATE TABLE db1.i (id INT PRIMARY KEY, t TEXT)", _rows("i", 1000))
        if os.geteuid() == 0:
            own.sql(f"CREATE USER {own.user}@localhost IDENTIFIED BY ''", f"GRANT ALL ON *.* TO {own.user}@localhost")
        agent = agents(start_timeout=20, datastores={"mysql": [str(mysql_programs())]})
        agent.servers.define("s1", definition_of(own, "mysql", own.version.series, own.socket))
        back_up(agent, place, "s1", "full")
        sums = ("CHECKSUM TABLE db1.i", "SELECT COUNT(*) FROM db1.i")
        before = [own.sql(each) for each in sums]
        own.sql("USE db1", "SET cte_max_recursion_depth = 100000", _rows("i", 20000))
        os.kill(int((own.base / "own.pid").read_text()), signal.SIGKILL)

        view = restore(agent, place, "s1", "full", "r1")
        assert view.healthy and [own.sql(each) for each in sums] == before
        assert {str(own.base / f"{name}.old-r1") for name in outside} <= {old.name for old in view.old_data}
        assert {"undo_001", "undo_002"} <= {p.name for p in (own.base / "undo").iterdir()}
        assert not (own.data / "undo_001").exists() and not (own.data / "#innodb_redo").exists()

        own.sql("USE db1", "SET cte_max_recursion_depth = 100000", _rows("i", 3000))
        changed = [own.sql(each) for each in sums]
        prepare(agent, place, "s1", "full", "r2")
        (beside(own.data, "new", "r2") / "ibdata1").write_bytes(bytes(1 << 20))
        with pytest.raises(ServerFailed, match="the previous data is back and serves"):
            agent.servers.swap("s1", "r2")
        assert [own.sql(each) for each in sums] == changed
        assert agent.servers.discard_old("s1").old_data == []
    finally:
        own.end()


@pytest.mark.parametrize("direction", ["forward", "back"])
def test_swap_of_all_directories_is_finished_after_a_kill(
    agents: AgentMaker, mariadb: AdoptedMariaDB, place: Path, pool: str, direction: str
) -> None:
    """Every step is cut off in test_agent_outside_crash; here a real server is started on what comes out."""
    agent = agents(start_timeout=20)
    agent.servers.define("s1", mariadb.definition())
    back_up(agent, place, "s1", "full")
    before = _sums(mariadb)
    _change(mariadb)
    changed = _sums(mariadb)
    prepare(agent, place, "s1", "full", "r1")
    if direction == "back":
        with (mariadb.base / "home.new-r1" / "ibdata1").open("r+b") as file:
            file.write(b"\0" * (1 << 20))
    agent.stop()
    command = [
        sys.executable,
        str(Path(__file__).with_name("crash_swap.py")),
        str(place / "d"),
        pool,
        "s1",
        "r1",
        "14",
        direction,
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 9 and "died before _" in run.stdout, run.stderr
    assert not mariadb.data.exists()
    agent = agents(start_timeout=20)
    until(lambda: agent.servers.view("s1").state != "swapping" and agent.servers.view("s1").healthy, 90)
    assert _sums(mariadb) == (before if direction == "forward" else changed)
    assert mariadb.sql("CHECK TABLE db1.i EXTENDED")[-1][-1] == "OK"
