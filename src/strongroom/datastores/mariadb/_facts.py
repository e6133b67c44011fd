"""What a server and a data directory say of themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pymysql

from strongroom.datastores.mariadb import _survey
from strongroom.datastores.mariadb._checkpoints import PREPARED, read_checkpoints
from strongroom.datastores.mariadb._connection import connect, parts, variables, where
from strongroom.datastores.mariadb._versions import number_of
from strongroom.datastores.protocol.datastore import Facts, Finding
from strongroom.datastores.protocol.servers import Server
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


def ready(server: Server) -> Facts:
    """Raises ServerFailed while the server does not serve, NotInCluster when it is its cluster that does not let it.

    Raises NoConnections when all are taken, ConfigurationError when it does not serve this account.
    """
    try:
        with connect(server, timeout=5, patience=10) as connection:
            # What a node is asked outside of its cluster as well, where it refuses all that reads tables.
            said = {name: variables(connection, "VARIABLES", name).get(name, "") for name in ("version", "datadir", "wsrep_on")}
            galera = None
            if said["wsrep_on"] == "ON":
                status = variables(connection, "STATUS", "wsrep_%")
                galera = {name: status[name] for name in _GALERA if name in status}
    except pymysql.MySQLError as error:
        raise ServerFailed(f"{where(server)} does not serve: {parts(error)[1]}", remedy="Look into its error log.") from error
    if "MariaDB" not in said["version"]:
        raise ServerFailed(f"{where(server)} is not MariaDB, it says {said['version']}", remedy="Adopt it as what it is.")
    if galera is not None and (galera.get("wsrep_ready"), galera.get("wsrep_cluster_status")) != ("ON", "Primary"):
        raise NotInCluster(
            f"{where(server)} is not part of its cluster: {galera.get('wsrep_cluster_status')}, "
            f"{galera.get('wsrep_local_state_comment')}",
            remedy="It joins as soon as it reaches the others. When none of them serves, recover the cluster.",
        )
    return Facts(version_number=number_of(said["version"]), data_dir=Path(said["datadir"]), galera=galera)


def examine(server: Server) -> Iterator[Finding]:
    """What a backup, or a restore of one, would meet. Asks only."""
    try:
        ready(server)
        notices = _survey.read(server).notices
    except StrongroomError as error:
        yield Finding(level="error", message=error.message, remedy=error.remedy or "Start the server.")
        return
    except (OSError, pymysql.MySQLError) as error:
        yield Finding(level="error", message=f"{where(server)} cannot be looked at: {error}", remedy="See its error log.")
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
        yield Finding(level="ok", message="it answers, and can be backed up")


def check_data(data_dir: Path, *, may_be_empty: bool = False) -> None:
    """Refuse a directory that is no database, or that a restore has not finished. Another node fills one that ``may_be_empty``.

    MariaDB starts on an unprepared backup without complaint, and serves wrong data.
    """
    remedy = "Restore again; what is in this directory cannot be used."
    if is_unfinished(data_dir):
        raise ServerFailed(f"{data_dir} holds a restore that was not finished", remedy=remedy)
    checkpoints = read_checkpoints(data_dir)
    if checkpoints is not None and checkpoints.backup_type != PREPARED:
        raise ServerFailed(
            f"{data_dir} holds a backup that is not prepared (backup_type is {checkpoints.backup_type})", remedy=remedy
        )
    if not (data_dir / "mysql").is_dir() and not (may_be_empty and not (data_dir / "ibdata1").exists()):
        raise ServerFailed(f"{data_dir} holds no MariaDB database", remedy="Initialize it, or restore a backup into it.")
