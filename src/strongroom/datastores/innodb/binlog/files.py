"""The files of a server's binary log, and whether they can be archived."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymysql.connections import Connection

from strongroom.datastores.innodb.binlog.header import FORMAT, MAGIC, SIZE, parse_header
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.innodb.connection import describe_server, explain_refusals, query, read_variables
from strongroom.datastores.innodb.versions import extract_number, make_sort_key
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ConfigurationError, LogCorrupt, Unsupported

_DAY = 86400
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
        _require_log(server, _read_settings(connection))
        _require_complete(server, connection)
        return [LogFile(str(row[0]), int(row[1])) for row in query(connection, "SHOW BINARY LOGS")]


def _read_settings(connection: Connection[Any]) -> dict[str, str]:
    names = ("log\\_%", "binlog\\_%", "expire\\_logs\\_days", "sync\\_binlog", "wsrep\\_on")
    return {name: value for each in names for name, value in read_variables(connection, "VARIABLES", each).items()}


def _require_log(server: Server, found: dict[str, str]) -> None:
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


def _require_complete(server: Server, connection: Connection[Any]) -> None:
    """Raises ConfigurationError if the server leaves changes out of its log: data that is rolled forward would lack them."""
    is_mysql = server.datastore == "mysql"
    ((version,),) = query(connection, "SELECT @@version")
    number = make_sort_key(extract_number(str(version)))
    status = query(connection, f"SHOW {'BINARY LOG' if is_mysql and number >= (8, 2, 0) else 'MASTER'} STATUS")[0]
    for name, databases in (("binlog_do_db", status[2]), ("binlog_ignore_db", status[3])):
        if databases:
            raise ConfigurationError(
                f"{describe_server(server)} leaves databases out of its binary log: {name} is {databases}",
                remedy=f"Remove {name} from its option file; then restart the server.",
            )
    updates = read_variables(connection, "VARIABLES", "log\\_%\\_updates")
    words = "ALL SLAVES" if not is_mysql else "REPLICA" if number >= (8, 0, 22) else "SLAVE"
    if "ON" not in updates.values() and query(connection, f"SHOW {words} STATUS"):
        name = next(iter(updates), "log_slave_updates")
        raise ConfigurationError(
            f"{describe_server(server)} is a replica, and logs only its own writes: {name} is OFF",
            remedy=_RESTART.format(f"{name} = ON"),
        )


def find_warnings(server: Server, connection: Connection[Any]) -> tuple[str, ...]:
    """What its owner should change, because the archive may lose log otherwise, or the log may not lead to the same rows."""
    with explain_refusals(server):
        found = _read_settings(connection)
    kept = int(found.get("binlog_expire_logs_seconds") or 0) or float(found.get("expire_logs_days") or 0) * _DAY
    warnings = []
    if 0 < kept < _DAY:
        warnings.append(
            f"the server deletes its binary log after {kept / 3600:.0f} hours, even if it could not be archived. "
            f"Set binlog_expire_logs_seconds = {_DAY} or more."
        )
    if found.get("sync_binlog") != "1":
        warnings.append(
            f"sync_binlog is {found.get('sync_binlog')}: after a crash of its host, the server may lack what is archived. "
            "Set sync_binlog = 1."
        )
    if found.get("binlog_format") == "STATEMENT":
        warnings.append("binlog_format is STATEMENT: statements may lead to other rows when they are applied. Set it to ROW.")
    return tuple(warnings)


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
