"""Asks MariaDB for its log after a list of GTIDs."""

from __future__ import annotations

from typing import Any

from pymysql.connections import Connection

from strongroom.datastores.innodb.binlog.reader import Command, dump_command, prepare
from strongroom.datastores.innodb.connection import query
from strongroom.datastores.mariadb.binlog.dialect import MariaDBDialect
from strongroom.datastores.mariadb.binlog.gtids import GtidList


class GtidSource:
    """After where each domain is in the list; an empty list asks for everything that the server ever logged."""

    starts = MariaDBDialect.starts
    after_gtids = True

    def __init__(self, known: GtidList) -> None:
        self._known = known

    def prepare(self, connection: Connection[Any], heartbeat: float) -> None:
        prepare(connection, heartbeat)
        query(connection, "SET @mariadb_slave_capability = 4, @slave_gtid_strict_mode = 0, @slave_gtid_ignore_duplicates = 0")
        query(connection, "SET @slave_connect_state = %s", str(self._known.position))

    def command(self, server_id: int, flags: int) -> Command:
        return dump_command(4, "", server_id, flags)
