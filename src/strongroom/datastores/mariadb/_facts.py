"""What a server and a data directory say of themselves."""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores._files import bytes_below
from strongroom.datastores._mark import is_unfinished
from strongroom.datastores._protocol import Facts, Server
from strongroom.datastores.mariadb._checkpoints import PREPARED, read_checkpoints
from strongroom.datastores.mariadb._connection import connect, query, variables, where
from strongroom.datastores.mariadb._versions import number_of
from strongroom.errors import ServerFailed, StrongroomError

_GALERA = (
    "wsrep_cluster_state_uuid",
    "wsrep_last_committed",
    "wsrep_cluster_size",
    "wsrep_cluster_status",
    "wsrep_local_state_comment",
    "wsrep_ready",
)


def ready(server: Server) -> Facts:
    """Raises ServerFailed while the server does not serve."""
    try:
        with connect(server, timeout=5, patience=10) as connection:
            ((version, data_dir),) = query(connection, "SELECT @@version, @@datadir")
            galera = None
            if variables(connection, "VARIABLES", "wsrep_on").get("wsrep_on") == "ON":
                status = variables(connection, "STATUS", "wsrep_%")
                galera = {name: status[name] for name in _GALERA if name in status}
    except ServerFailed:
        raise
    except StrongroomError as error:
        raise ServerFailed(error.message, remedy=error.remedy) from error
    number = number_of(version)
    if "MariaDB" not in version:
        raise ServerFailed(f"{where(server)} is not MariaDB, it says {version}", remedy="Adopt it as what it is.")
    place = Path(data_dir)
    return Facts(version_number=number, data_bytes=bytes_below(place), data_dir=place, galera=galera)


def check_data(data_dir: Path) -> None:
    """Refuse a directory that is no database, or that a restore has not finished.

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
    if not (data_dir / "mysql").is_dir():
        raise ServerFailed(f"{data_dir} holds no MariaDB database", remedy="Initialize it, or restore a backup into it.")
