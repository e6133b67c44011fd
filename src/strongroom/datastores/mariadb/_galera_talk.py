"""A running node: what it says of its cluster, and what proves that the cluster holds together."""

from __future__ import annotations

from pathlib import Path

import pymysql

from strongroom.datastores._files import bytes_below
from strongroom.datastores._galera import GaleraView
from strongroom.datastores._servers import Server
from strongroom.datastores.mariadb import _galera_files
from strongroom.datastores.mariadb._admin import SYSTEM_DATABASES
from strongroom.datastores.mariadb._connection import connect, identifier, query, variables
from strongroom.errors import StrongroomError


def view(server: Server, *, running: bool) -> GaleraView:
    """The node as it is now. Nothing of it fails: a node in trouble is looked at most."""
    seen = GaleraView(running=running, answers=False, data_bytes=bytes_below(server.data_dir), member=server.galera)
    seen = seen.model_copy(update=_said_by_files(server.data_dir))
    try:
        with connect(server, timeout=5, patience=10) as connection:
            status = variables(connection, "STATUS", "wsrep_%")
            settings = variables(connection, "VARIABLES", "wsrep_%")
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
    saved, last = _galera_files.read_saved(data_dir), _galera_files.read_view(data_dir)
    told: dict[str, object] = {"receiving": _galera_files.is_receiving(data_dir)}
    if saved is not None:
        told |= {"uuid": saved.position.uuid, "seqno": saved.position.seqno, "safe_to_bootstrap": saved.safe_to_bootstrap}
    if last is not None:
        told |= {"view": last.members, "view_id": last.id}
    return told


def _number(value: str | None) -> int | None:
    return int(value) if value and value.lstrip("-").isdigit() else None


def set_desync(server: Server, desync: bool) -> bool:
    """Whether the cluster waits for this node when it falls behind; true when this has changed something."""
    with connect(server) as connection:
        if (variables(connection, "VARIABLES", "wsrep_desync").get("wsrep_desync") == "ON") == desync:
            return False
        query(connection, f"SET GLOBAL wsrep_desync={'ON' if desync else 'OFF'}")
        return True


def write_canary(server: Server, word: str) -> None:
    """Write a word that the others must be able to read."""
    with connect(server) as connection:
        query(connection, "CREATE TABLE IF NOT EXISTS mysql.strongroom_canary (word VARCHAR(64) PRIMARY KEY) ENGINE=InnoDB")
        query(connection, "REPLACE INTO mysql.strongroom_canary VALUES (%s)", word)


def canaries(server: Server) -> list[str]:
    """Words that this node has, once it has applied all that was committed anywhere when it was asked."""
    with connect(server) as connection:
        query(connection, "SET SESSION wsrep_sync_wait=15")
        if not query(connection, "SHOW TABLES IN mysql LIKE 'strongroom\\_canary'"):
            return []
        return [str(word) for (word,) in query(connection, "SELECT word FROM mysql.strongroom_canary ORDER BY word")]


def drop_canaries(server: Server) -> None:
    """Remove them."""
    with connect(server) as connection:
        query(connection, "DROP TABLE IF EXISTS mysql.strongroom_canary")


def checksums(server: Server) -> dict[str, str]:
    """Checksum of every table of users, by ``database.table``."""
    found = {}
    with connect(server, patience=86400) as connection:
        query(connection, "SET SESSION wsrep_sync_wait=15")
        rows = query(connection, "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE TABLE_TYPE='BASE TABLE'")
        for schema, table in rows:
            if schema not in SYSTEM_DATABASES:
                ((_, checksum),) = query(connection, f"CHECKSUM TABLE {identifier(schema)}.{identifier(table)}")
                found[f"{schema}.{table}"] = str(checksum)
    return found
