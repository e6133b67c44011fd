"""The files of a server's binary log, and whether they can be archived."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymysql.connections import Connection

from strongroom.datastores.innodb.binlog.header import FORMAT, MAGIC, SIZE, parse_header
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.innodb.connection import describe_server, explain_refusals, query, read_variables
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ConfigurationError, LogCorrupt, Unsupported

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
        found = read_variables(connection, "VARIABLES", "log\\_%") | read_variables(
            connection, "VARIABLES", "binlog\\_storage\\_engine"
        )
        found |= read_variables(connection, "VARIABLES", "wsrep\\_on")
        if found.get("log_bin") != "ON":
            raise ConfigurationError(
                f"{describe_server(server)} writes no binary log: log_bin is OFF", remedy=_RESTART.format("log_bin = binlog")
            )
        if found.get("binlog_storage_engine", "").lower() == "innodb":
            raise Unsupported(
                f"{describe_server(server)} keeps its binary log in InnoDB, which cannot be archived yet",
                remedy=_RESTART.format("log_bin = binlog, without binlog_storage_engine"),
            )
        if found.get("wsrep_on") == "ON" and found.get("log_slave_updates") != "ON":
            raise ConfigurationError(
                f"{describe_server(server)} logs only its own writes and not those of the other nodes: log_slave_updates is OFF",
                remedy=_RESTART.format("log_slave_updates = ON"),
            )
        return [LogFile(str(row[0]), int(row[1])) for row in query(connection, "SHOW BINARY LOGS")]


def read_created(connection: Connection[Any], name: str) -> int | None:
    """When a server of this host began a file of its log, in seconds. None if the file cannot be read."""
    ((base, data_dir),) = query(connection, "SELECT @@log_bin_basename, @@datadir")
    if not base:
        return None
    try:
        with (Path(data_dir) / str(base)).with_name(name).open("rb") as file:
            data = file.read(len(MAGIC) + SIZE)
            header = parse_header(data, len(MAGIC))
    except (OSError, LogCorrupt, ValueError):
        return None
    return header.time if data.startswith(MAGIC) and header.kind == FORMAT else None
