"""The files of a server's binary log, and whether they can be archived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pymysql.connections import Connection

from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.innodb.connection import explain_refusals, query, variables, where
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ConfigurationError, Unsupported

_RESTART = "In the [mysqld] group of its option file: {}; then restart the server."


@dataclass(frozen=True, slots=True)
class LogFile:
    name: str
    size: int

    @property
    def position(self) -> Position:
        """Its end."""
        return Position(self.name, self.size)


def list_files(server: Server, connection: Connection[Any]) -> list[LogFile]:
    """The files that the server has, in their order.

    Raises ConfigurationError if it writes no log that can be archived; Unsupported for a log within InnoDB.
    """
    with explain_refusals(server):
        found = variables(connection, "VARIABLES", "log\\_%") | variables(connection, "VARIABLES", "binlog\\_storage\\_engine")
        found |= variables(connection, "VARIABLES", "wsrep\\_on")
        if found.get("log_bin") != "ON":
            raise ConfigurationError(
                f"{where(server)} writes no binary log: log_bin is OFF", remedy=_RESTART.format("log_bin = binlog")
            )
        if found.get("binlog_storage_engine", "").lower() == "innodb":
            raise Unsupported(
                f"{where(server)} keeps its binary log in InnoDB, which cannot be archived yet",
                remedy=_RESTART.format("log_bin = binlog, without binlog_storage_engine"),
            )
        if found.get("wsrep_on") == "ON" and found.get("log_slave_updates") != "ON":
            raise ConfigurationError(
                f"{where(server)} logs only its own writes and not those of the other nodes: log_slave_updates is OFF",
                remedy=_RESTART.format("log_slave_updates = ON"),
            )
        return [LogFile(str(row[0]), int(row[1])) for row in query(connection, "SHOW BINARY LOGS")]
