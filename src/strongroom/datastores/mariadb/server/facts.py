"""Facts about a running server and about a data directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pymysql

from strongroom.datastores.innodb.checkpoints import PREPARED, read_checkpoints
from strongroom.datastores.innodb.connection import connect, describe_server, read_variables, split_error
from strongroom.datastores.innodb.versions import extract_number
from strongroom.datastores.mariadb.profile import read
from strongroom.datastores.protocol.servers import Facts, Finding, Server
from strongroom.datastores.toolkit.mark import is_unfinished
from strongroom.errors import NotInCluster, ServerFailed, StrongroomError

_GALERA = (
    "wsrep_cluster_state_uuid",
    "wsrep_last_committed",
    "wsrep_cluster_size",
    "wsrep_cluster_status",
    "wsrep_local_state_comment",
    "wsrep_ready",
    "wsrep_connected",
    "wsrep_incoming_addresses",
    "wsrep_local_commits",
    "wsrep_flow_control_paused",
    "wsrep_desync_count",
)


def read_facts(server: Server) -> Facts:
    """Raises ServerFailed while the server does not serve, NotInCluster if that is because of its cluster.

    Raises NoConnections when all are taken, ConfigurationError when it does not serve this account.
    """
    try:
        with connect(server, timeout=5, patience=10) as connection:
            # A node outside its cluster refuses statements that read tables, but not these.
            said = {
                name: read_variables(connection, "VARIABLES", name).get(name, "") for name in ("version", "datadir", "wsrep_on")
            }
            galera = None
            if said["wsrep_on"] == "ON":
                status = read_variables(connection, "STATUS", "wsrep_%")
                galera = {name: status[name] for name in _GALERA if name in status}
    except pymysql.MySQLError as error:
        raise ServerFailed(
            f"{describe_server(server)} does not serve: {split_error(error)[1]}", remedy="See its error log."
        ) from error
    if "MariaDB" not in said["version"]:
        raise ServerFailed(
            f"{describe_server(server)} is not MariaDB, it reports {said['version']}", remedy="Specify the right datastore."
        )
    if galera is not None and (galera.get("wsrep_ready"), galera.get("wsrep_cluster_status")) != ("ON", "Primary"):
        raise NotInCluster(
            f"{describe_server(server)} is not part of its cluster: {galera.get('wsrep_cluster_status')}, "
            f"{galera.get('wsrep_local_state_comment')}",
            remedy="It joins as soon as it reaches the others. If none of them serves, recover the cluster.",
        )
    return Facts(version_number=extract_number(said["version"]), data_dir=Path(said["datadir"]), galera=galera)


def examine(server: Server) -> Iterator[Finding]:
    """Find what a backup, or a restore of it, would refuse or warn about. Changes nothing."""
    try:
        read_facts(server)
        notices = read.read_profile(server).notices
    except StrongroomError as error:
        yield Finding(level="error", message=error.message, remedy=error.remedy or "Start the server.")
        return
    except (OSError, pymysql.MySQLError) as error:
        yield Finding(
            level="error", message=f"{describe_server(server)} cannot be examined: {error}", remedy="See its error log."
        )
        return
    meaning = {
        "refuse": "a backup is refused: ",
        "refuse_new": "a restore to a new instance is refused: ",
        "refuse_in_place": "a restore in place is refused: ",
    }
    for notice in notices:
        level: Literal["warning", "error"] = "error" if notice.effect == "refuse" else "warning"
        yield Finding(level=level, message=meaning.get(notice.effect, "") + notice.message, remedy=notice.remedy)
    if all(notice.effect != "refuse" for notice in notices):
        yield Finding(level="ok", message="it answers and can be backed up")


def check_data(server: Server, data_dir: Path) -> None:
    """Refuse a directory that is not a database, or an unfinished restore. That of a node may be empty: another node fills it.

    MariaDB starts on an unprepared backup without an error, and serves wrong data.
    """
    may_be_empty = server.galera is not None and data_dir == server.data_dir
    remedy = "Restore again; what is in this directory cannot be used."
    if is_unfinished(data_dir):
        raise ServerFailed(f"{data_dir} has an unfinished restore", remedy=remedy)
    checkpoints = read_checkpoints(data_dir)
    if checkpoints is not None and checkpoints.backup_type != PREPARED:
        raise ServerFailed(
            f"{data_dir} has a backup that is not prepared (backup_type is {checkpoints.backup_type})", remedy=remedy
        )
    if not (data_dir / "mysql").is_dir() and not (may_be_empty and not (data_dir / "ibdata1").exists()):
        raise ServerFailed(f"{data_dir} has no MariaDB database", remedy="Initialize it, or restore a backup into it.")
