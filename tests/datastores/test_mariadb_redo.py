"""mariadb-backup may copy what is left behind the end of the redo log: such a backup cannot be prepared (MDEV-39468)."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.datastores import Server
from strongroom.datastores.innodb.connection import connect, read_variables
from strongroom.datastores.mariadb.backup import redo
from strongroom.errors import LogPastEnd
from support import mariadb
from support.identity import run_as
from support.mariadb import MariaDBServer


def position(running: MariaDBServer) -> int:
    return int(running.sql("SHOW GLOBAL STATUS LIKE 'Innodb_lsn_current'")[0][1])


def log_of(server: Server, begins: int, ends: int) -> bytes:
    """What the server has in its log, flushed."""
    with connect(server) as connection, connection.cursor() as cursor:
        cursor.execute("FLUSH NO_WRITE_TO_BINLOG ENGINE LOGS")
        assert int(read_variables(connection, "STATUS", "innodb_lsn_flushed")["innodb_lsn_flushed"]) >= ends
    found = redo._read(server.data_dir / redo.LOG_FILE, begins, ends - begins, ends)
    assert found is not None
    return found


def test_copied_log_must_be_the_log_of_the_server(place: Path) -> None:
    with mariadb.running(place, None) as running:
        running.sql("CREATE DATABASE db1")
        running.sql("CREATE TABLE db1.t (a INT PRIMARY KEY AUTO_INCREMENT, b CHAR(200))")
        begins = position(running)
        for _ in range(50):
            running.sql("INSERT INTO db1.t (b) VALUES (REPEAT('x', 200))")
        ends = position(running)
        server, user = running.server, running.server.user
        end = run_as(user, log_of, server, begins, ends)

        def require(end: bytes, last_lsn: int) -> None:
            run_as(user, redo.require_own_log, server, end, begins, last_lsn)

        marked = bytes(1 if byte == 0 and end[at : at + 1] == b"\0" else byte for at, byte in enumerate(end))
        require(end, ends)
        require(marked, ends)  # the tool sets the marks between mini-transactions
        for _ in range(20):
            running.sql("INSERT INTO db1.t (b) VALUES (REPEAT('y', 200))")
        require(end, ends)
        with pytest.raises(LogPastEnd, match=r"ends at LSN \d+, and the server is at"):
            require(end + end[-3000:], position(running) + 3000)
        older = end[:-700] + end[-1400:-700]
        with pytest.raises(LogPastEnd, match="is not the log of the server"):
            require(older, ends)
        taken = mariadb.backup(running, place, "full")  # a real one passes
        assert taken.positions.last_lsn is not None and taken.positions.last_lsn >= ends
