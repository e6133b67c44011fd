"""Asks MySQL for its log after a set of GTIDs."""

from __future__ import annotations

import struct
from typing import Any

from pymysql.connections import Connection

from strongroom.datastores.innodb.binlog.reader import Command, prepare
from strongroom.datastores.mysql.binlog.dialect import MySQLDialect
from strongroom.datastores.mysql.binlog.gtids import GtidSet

_DUMP_GTID = 0x1E
_BY_GTID = 4


class GtidSource:
    """Without the transactions of the set; an empty set asks for everything that the server ever logged."""

    starts = MySQLDialect.starts
    after_gtids = True

    def __init__(self, known: GtidSet) -> None:
        self._known = known

    def prepare(self, connection: Connection[Any], heartbeat: float) -> None:
        prepare(connection, heartbeat)

    def command(self, server_id: int, flags: int) -> Command:
        data = self._known.encode()
        return Command(_DUMP_GTID, struct.pack("<HIIQI", flags | _BY_GTID, server_id, 0, 4, len(data)) + data)
