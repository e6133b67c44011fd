"""A running node: its state, and statements that prove that its cluster is complete."""

from __future__ import annotations

import time
from collections.abc import Collection
from pathlib import Path

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb.admin import SYSTEM_DATABASES
from strongroom.datastores.innodb.connection import connect, query, quote_name, read_variables, split_error
from strongroom.datastores.mariadb.galera import files
from strongroom.datastores.protocol.clusters import GaleraView, TableSums
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ConfigurationError, NoConnections, StrongroomError
from strongroom.system.disks import measure_files

_ARRIVAL = 3.0
"""Seconds to wait for a transaction."""
_LOOK = 0.001
_CHANGED = {1146, 1205, 1213, 1412}
"""Codes for a table that was dropped or altered, and for a session that a statement of the cluster has aborted."""


def view(server: Server, *, running: bool) -> GaleraView:
    """The current state of the node. Never fails, because it is used most for nodes with problems."""
    seen = GaleraView(running=running, answers=False, data_bytes=measure_files(server.data_dir), member=server.galera)
    seen = seen.model_copy(update=_said_by_files(server.data_dir))
    try:
        with connect(server, timeout=5, patience=10) as connection:
            status = read_variables(connection, "STATUS", "wsrep_%")
            settings = read_variables(connection, "VARIABLES", "wsrep_%")
    except (ConfigurationError, NoConnections) as error:
        return seen.model_copy(update={"refuses": error.message})
    except (StrongroomError, pymysql.MySQLError):
        return seen
    return seen.model_copy(
        update={
            "answers": True,
            "state": status.get("wsrep_local_state_comment", ""),
            "primary": status.get("wsrep_cluster_status") == "Primary",
            "ready": status.get("wsrep_ready") == "ON",
            "connected": status.get("wsrep_connected") == "ON",
            "desynced": settings.get("wsrep_desync") == "ON",
            "cluster": settings.get("wsrep_cluster_name", ""),
            "node": settings.get("wsrep_node_name", ""),
            "uuid": status.get("wsrep_cluster_state_uuid") or None,
            "seqno": _number(status.get("wsrep_last_committed")),
            "size": _number(status.get("wsrep_cluster_size")) or 0,
            "peers": sorted(peer.rpartition(":")[0] for peer in status.get("wsrep_incoming_addresses", "").split(",") if peer),
        }
    )


def _said_by_files(data_dir: Path) -> dict[str, object]:
    saved, last = files.read_saved(data_dir), files.read_view(data_dir)
    told: dict[str, object] = {"receiving": files.is_receiving(data_dir)}
    if saved is not None:
        told |= {"uuid": saved.position.uuid, "seqno": saved.position.seqno, "safe_to_bootstrap": saved.safe_to_bootstrap}
    if last is not None:
        told |= {"view": last.members, "view_id": last.id}
    return told


def _number(value: str | None) -> int | None:
    return int(value) if value and value.lstrip("-").isdigit() else None


def set_desync(server: Server, desync: bool) -> bool:
    """Set whether the cluster waits for this node when it falls behind. Returns whether this was a change."""
    with connect(server) as connection:
        if (read_variables(connection, "VARIABLES", "wsrep_desync").get("wsrep_desync") == "ON") == desync:
            return False
        query(connection, f"SET GLOBAL wsrep_desync={'ON' if desync else 'OFF'}")
        return True


def write_canary(server: Server, word: str) -> None:
    """Write a word that the other nodes must be able to read."""
    with connect(server) as connection:
        query(connection, "CREATE TABLE IF NOT EXISTS mysql.strongroom_canary (word VARCHAR(64) PRIMARY KEY) ENGINE=InnoDB")
        query(connection, "REPLACE INTO mysql.strongroom_canary VALUES (%s)", word)


def read_canaries(server: Server) -> list[str]:
    """The words on this node, after it has applied all that was committed on any node before the call."""
    with connect(server) as connection:
        query(connection, "SET SESSION wsrep_sync_wait=15")
        if not query(connection, "SHOW TABLES IN mysql LIKE 'strongroom\\_canary'"):
            return []
        return [str(word) for (word,) in query(connection, "SELECT word FROM mysql.strongroom_canary ORDER BY word")]


def drop_canaries(server: Server) -> None:
    """Remove all words."""
    with connect(server) as connection:
        query(connection, "DROP TABLE IF EXISTS mysql.strongroom_canary")


def sum_tables(server: Server, *, tables: Collection[str] | None = None, at: int | None = None) -> TableSums:
    """Checksums of the users' tables, by ``database.table``. Only tables of InnoDB are replicated."""
    with connect(server, patience=86400) as connection:
        query(connection, "SET SESSION wsrep_sync_wait=15")
        rows = query(
            connection,
            "SELECT table_schema, table_name FROM information_schema.tables"
            " WHERE table_type = 'BASE TABLE' AND engine = 'InnoDB'",
        )
        names = [(str(schema), str(table)) for schema, table in rows if schema not in SYSTEM_DATABASES]
        seqno = None if at is None else _begin_snapshot(connection, at)
        sums = {
            f"{schema}.{table}": _checksum(connection, f"{quote_name(schema)}.{quote_name(table)}")
            for schema, table in names
            if tables is None or f"{schema}.{table}" in tables
        }
        if at is not None:
            query(connection, "ROLLBACK")
        return TableSums(seqno=seqno, sums=sums)


def _begin_snapshot(connection: Connection[Cursor], at: int) -> int | None:
    """Wait for the transaction ``at``, then start a snapshot. Returns the last transaction in it, if known."""
    query(connection, "SET SESSION wsrep_sync_wait=0")
    query(connection, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    deadline = time.monotonic() + _ARRIVAL
    while _last_committed(connection) < at and time.monotonic() < deadline:
        time.sleep(_LOOK)
    before = _last_committed(connection)
    query(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
    return before if _last_committed(connection) == before else None


def _last_committed(connection: Connection[Cursor]) -> int:
    return _number(read_variables(connection, "STATUS", "wsrep_last_committed").get("wsrep_last_committed")) or 0


def _checksum(connection: Connection[Cursor], table: str) -> str:
    """The checksum of one table; the error if clients alter or drop it at the same time."""
    try:
        ((_, checksum),) = query(connection, f"CHECKSUM TABLE {table}")
    except pymysql.MySQLError as error:
        code, _ = split_error(error)
        if code not in _CHANGED:
            raise
        return f"error {code}"
    return str(checksum)
