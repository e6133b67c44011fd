"""Facts about a running server and about a data directory."""

from __future__ import annotations

from pathlib import Path

import pymysql

from strongroom.datastores.innodb.checkpoints import read_checkpoints
from strongroom.datastores.innodb.connection import connect, describe_server, query, split_error
from strongroom.datastores.innodb.versions import extract_number
from strongroom.datastores.mysql.backup.xtrabackup import FINISHED
from strongroom.datastores.protocol.servers import Facts, Server
from strongroom.datastores.toolkit.mark import is_unfinished
from strongroom.errors import ServerFailed

_REMEDY = "Restore again; what is in this directory cannot be used."


def read_facts(server: Server) -> Facts:
    """Read the facts of a running server.

    Raises ServerFailed while it does not serve, NoConnections if all are in use, ConfigurationError if it refuses this user.
    """
    try:
        with connect(server, timeout=5, patience=10) as connection:
            ((version, data_dir),) = query(connection, "SELECT @@version, @@datadir")
    except pymysql.MySQLError as error:
        raise ServerFailed(
            f"{describe_server(server)} does not serve: {split_error(error)[1]}", remedy="See its error log."
        ) from error
    if "MariaDB" in version:
        raise ServerFailed(f"{describe_server(server)} is not MySQL, it reports {version}", remedy="Specify the right datastore.")
    return Facts(version_number=extract_number(version), data_dir=Path(data_dir))


def check_data(server: Server, data_dir: Path) -> None:
    """Refuse a directory that is not a database, or an unfinished restore."""
    if is_unfinished(data_dir):
        raise ServerFailed(
            f"{data_dir} has an unfinished restore",
            remedy=_REMEDY,
        )
    checkpoints = read_checkpoints(data_dir)
    if checkpoints is not None and checkpoints.backup_type != FINISHED:
        raise ServerFailed(
            f"{data_dir} has a backup that is not prepared (backup_type is {checkpoints.backup_type})", remedy=_REMEDY
        )
    if not (data_dir / "ibdata1").is_file() or not (data_dir / "mysql").is_dir():
        raise ServerFailed(f"{data_dir} has no MySQL database", remedy="Initialize it, or restore a backup into it.")
