"""What a server and a data directory say of themselves."""

from __future__ import annotations

from pathlib import Path

import pymysql

from strongroom.datastores.mariadb._checkpoints import read_checkpoints
from strongroom.datastores.mariadb._connection import connect, parts, query, where
from strongroom.datastores.mysql.backup.xtrabackup import FINISHED
from strongroom.datastores.mysql.server.versions import number_of
from strongroom.datastores.protocol.datastore import Facts
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.mark import is_unfinished
from strongroom.errors import ServerFailed

_REMEDY = "Restore again; what is in this directory cannot be used."


def ready(server: Server) -> Facts:
    """Raises ServerFailed while the server does not serve, NoConnections when all are taken; ConfigurationError when it does not
    serve this account.
    """
    try:
        with connect(server, timeout=5, patience=10) as connection:
            ((version, data_dir),) = query(connection, "SELECT @@version, @@datadir")
    except pymysql.MySQLError as error:
        raise ServerFailed(f"{where(server)} does not serve: {parts(error)[1]}", remedy="Look into its error log.") from error
    if "MariaDB" in version:
        raise ServerFailed(f"{where(server)} is not MySQL, it says {version}", remedy="Adopt it as what it is.")
    return Facts(version_number=number_of(version), data_dir=Path(data_dir))


def check_data(data_dir: Path) -> None:
    """Refuse a directory that is no database, or that a restore has not finished."""
    if is_unfinished(data_dir):
        raise ServerFailed(
            f"{data_dir} holds a restore that was not finished",
            remedy=_REMEDY,
        )
    checkpoints = read_checkpoints(data_dir)
    if checkpoints is not None and checkpoints.backup_type != FINISHED:
        raise ServerFailed(
            f"{data_dir} holds a backup that is not prepared (backup_type is {checkpoints.backup_type})", remedy=_REMEDY
        )
    if not (data_dir / "ibdata1").is_file() or not (data_dir / "mysql").is_dir():
        raise ServerFailed(f"{data_dir} holds no MySQL database", remedy="Initialize it, or restore a backup into it.")
