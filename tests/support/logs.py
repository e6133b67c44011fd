"""Running servers whose binary log is read."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strongroom.datastores.innodb.binlog.groups import Group, Grouper
from strongroom.datastores.innodb.binlog.pieces import Piece, Position
from strongroom.datastores.innodb.binlog.reader import DumpReader, FileSource, Source
from strongroom.datastores.innodb.binlog.tail import Tail, require_same_log
from strongroom.datastores.innodb.connection import connect
from strongroom.datastores.mariadb.binlog import source as mariadb_source
from strongroom.datastores.mariadb.binlog.dialect import MariaDBDialect
from strongroom.datastores.mariadb.binlog.gtids import Gtid, GtidList
from strongroom.datastores.mysql.binlog import source as mysql_source
from strongroom.datastores.mysql.binlog.dialect import MySQLDialect
from strongroom.datastores.mysql.binlog.gtids import GtidSet
from support import mariadb, mysql
from support.binlogs import closed
from support.mariadb import MariaDBServer

READER = 4_000_000_001


@dataclass
class Log:
    """A running server with a table, and what differs between the databases."""

    running: MariaDBServer
    kind: str

    @property
    def dialect(self) -> MariaDBDialect | MySQLDialect:
        return MariaDBDialect() if self.kind == "mariadb" else MySQLDialect()

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        return self.running.sql(statement, *values)

    def run(self, *statements: str) -> None:
        """In one session."""
        with self.running.connect() as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def names(self) -> list[str]:
        return [row[0] for row in self.sql("SHOW BINARY LOGS")]

    def from_file(self, file: str, offset: int = 4) -> Source:
        return FileSource(Position(file, offset), self.dialect.starts)

    def after(self, known: str) -> Source:
        """The source after these GTIDs."""
        if self.kind == "mariadb":
            return mariadb_source.GtidSource(GtidList.parse(known))
        return mysql_source.GtidSource(GtidSet.parse(known))

    def read(self, source: Source) -> Iterator[Piece]:
        """To the end of the log."""
        with connect(self.running.server) as connection:
            reader = DumpReader(self.running.server, connection, source, server_id=READER, follow=False)
            yield from (piece for piece in reader.read() if isinstance(piece, Piece))

    def groups(self, pieces: Iterator[Piece]) -> list[Group]:
        grouper = Grouper(self.dialect)
        return [group for piece in pieces for group in grouper.feed(piece)]

    def transactions(self, pieces: Iterator[Piece]) -> Iterator[tuple[Group, bytes]]:
        """Transactions with their events."""
        grouper, data = Grouper(self.dialect), b""
        for piece in pieces:
            groups = grouper.feed(piece)
            data += piece.data if grouper.is_open or groups else b""
            for group in groups:
                yield group, data
                data = b""

    def state(self) -> GtidList | GtidSet:
        """What the server has logged."""
        if self.kind == "mariadb":
            return GtidList.parse(self.sql("SELECT @@gtid_binlog_state")[0][0])
        return GtidSet.parse(self.sql("SELECT @@gtid_executed")[0][0])

    def end(self) -> Position:
        """Of the log."""
        name = self.names()[-1]
        return Position(name, (self.running.data_dir / name).stat().st_size)

    def files(self, names: list[str]) -> dict[str, bytes]:
        return {name: closed(self.running.data_dir / name) for name in names}

    def check_tail(self, tail: Tail) -> None:
        require_same_log(self.running.server, tail, starts=self.dialect.starts, server_id=READER)

    def reset(self) -> None:
        self.sql("RESET MASTER" if self.kind == "mariadb" else "RESET BINARY LOGS AND GTIDS")


def add(state: GtidList | GtidSet, gtid: str) -> GtidList | GtidSet:
    """The state after a transaction."""
    return state.add(Gtid.parse(gtid)) if isinstance(state, GtidList) else state | GtidSet.parse(gtid)


@contextmanager
def logged(kind: str, place: Path) -> Iterator[Log]:
    """A new server, with the table d.t."""
    start = mariadb.running if kind == "mariadb" else mysql.running
    with start(place, None) as running:
        running.sql("CREATE DATABASE d")
        running.sql("CREATE TABLE d.t (a INT PRIMARY KEY AUTO_INCREMENT, b LONGTEXT)")
        yield Log(running, kind)


@contextmanager
def logged_in_own_place(kind: str) -> Iterator[Log]:
    """The same in a directory of its own, for a fixture that several tests share."""
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    try:
        with logged(kind, place) as found:
            yield found
    finally:
        shutil.rmtree(place, ignore_errors=True)
