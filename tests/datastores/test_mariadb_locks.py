"""A backup that waits for a lock reports the lock and its holder, and is aborted before it blocks others for too long."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from strongroom.datastores import BackupRequest, Server
from strongroom.datastores.mariadb.backup import locks
from strongroom.datastores.mariadb.backup import session as session_module
from strongroom.errors import Busy
from support import mariadb, own_mariadb
from support.identity import run_as
from support.sessions import pieces


@pytest.mark.parametrize("plugin", [False, True])
def test_a_wait_for_a_lock_is_reported_and_limited(place: Path, plugin: bool) -> None:
    if plugin and not own_mariadb.have_plugins():
        pytest.skip("scripts/setup could not get the plugins")
    options = ["plugin_load_add=metadata_lock_info"] if plugin else []
    version = own_mariadb.with_plugins(place) if plugin else None
    with own_mariadb.running(place, options=options, of=version) as own:
        own.sql("CREATE DATABASE d")
        own.sql("CREATE TABLE d.t (a INT)")
        own.sql("CREATE TABLE d.u (a INT)")
        work = mariadb.scratch(place, "work")
        with own.connect() as holder, holder.cursor() as cursor:
            cursor.execute("LOCK TABLES d.t WRITE")
            ddl = threading.Thread(target=_change, args=(own,), daemon=True)
            threading.Timer(2, ddl.start).start()
            said, error = run_as(own.server.user, _wait, own.server, work)
            cursor.execute("UNLOCK TABLES")
        ddl.join(30)
        assert isinstance(error, Busy)
        assert "BACKUP STAGE START waits" in error.message and f"session {holder.thread_id()} of keeper" in error.message
        assert ("which holds d.t" in error.message) == plugin
        assert any("ALTER TABLE d.u" in text and "Secret" not in text for text in [*said, error.message])
        assert said[0].startswith("Waits for a lock: BACKUP STAGE START waits")
        assert not own.sql("SELECT id FROM information_schema.processlist WHERE info LIKE 'BACKUP STAGE%%'")
        assert mariadb.backup(own, place, "after").path.stat().st_size


def _change(own: mariadb.MariaDBServer) -> None:
    own.sql("ALTER TABLE d.u ADD b VARCHAR(9) DEFAULT 'Secret'")


def _wait(server: Server, work: Path) -> tuple[list[str], Exception | None]:
    locks.PATIENCE, locks.PATIENCE_ALONE = 4, 20
    said: list[str] = []
    session = session_module.begin(server, BackupRequest("full", None, work, tell=said.append))
    began = time.monotonic()
    try:
        for _ in pieces(session.stdout):
            assert time.monotonic() - began < 60
        session.finish()
    except Busy as error:
        return said, error
    finally:
        session.abort()
    return said, None


def test_backups_by_other_programs_are_not_aborted() -> None:
    wait = ("h", "Query", 400, "Waiting for backup lock", "BACKUP STAGE START")
    actual, theirs = locks.Session(1, "strongroom", *wait), locks.Session(2, "sst", *wait)
    assert locks.find_waits("strongroom", [theirs, actual]) == [actual]


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("ALTER TABLE `d`.`t` ADD b INT", "ALTER TABLE `d`.`t`"),
        ("ALTER TABLE d.t ADD b INT", "ALTER TABLE d.t"),
        ("CREATE USER x IDENTIFIED BY 'secret'", "CREATE USER x"),
        ("SET PASSWORD FOR 'x'@'y' = PASSWORD('secret')", "SET PASSWORD FOR"),
        ("/* hidden */ SELECT 1", "a statement"),
    ],
)
def test_values_of_statements_are_not_shown(statement: str, shown: str) -> None:
    assert locks.shorten_statement(statement) == shown
