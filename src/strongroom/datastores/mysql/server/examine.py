"""Finds what an adopted server lacks for backups, with the statements for its owner."""

from __future__ import annotations

from collections.abc import Iterator

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb.connection import connect, describe_server, query, read_variables, split_error
from strongroom.datastores.innodb.versions import make_sort_key
from strongroom.datastores.mysql.backup import witness
from strongroom.datastores.mysql.server import keyring
from strongroom.datastores.mysql.server.versions import CLONES, XTRABACKUP
from strongroom.datastores.protocol.servers import Finding, Server
from strongroom.errors import ConfigurationError, StrongroomError

_DAY = 86400
_PATIENCE = "clone_donor_timeout_after_network_failure"
_RIGHTS = {
    "BACKUP_ADMIN": "take backups",
    "REPLICATION SLAVE": "read the binary log, which incrementals are",
    "REPLICATION CLIENT": "ask for the positions of backups",
    "RELOAD": "close the binary log, which an incremental does at its end",
    "PROCESS": "see which tablespaces there are, and who waits for a backup",
    "SELECT": "see which tables a backup cannot carry",
}
"""Rights that an account needs, and their purpose."""
_NO_RIGHT = {1142, 1227}
_FOR_XTRABACKUP = {"LOCK TABLES": "hold tables still"}


def examine(server: Server) -> Iterator[Finding]:
    """See ``Servers.examine``."""
    try:
        with connect(server, timeout=5, patience=30) as connection:
            findings = [
                *_program(connection, server),
                *_settings(connection),
                *_rights(connection, server),
                *_tables(connection, server),
                *_encryption(connection, server),
                *witness.examine(connection, server),
            ]
    except StrongroomError as error:
        yield Finding(level="error", message=error.message, remedy=error.remedy or "Start the server.")
        return
    except pymysql.MySQLError as error:
        yield Finding(
            level="error", message=f"{describe_server(server)} failed to answer a query: {error}", remedy="See its log."
        )
        return
    yield from findings
    if all(finding.level != "error" for finding in findings):
        yield Finding(level="ok", message=f"{describe_server(server)} can be backed up")


def _program(connection: Connection[Cursor], server: Server) -> Iterator[Finding]:
    """Check what copies the data: XtraBackup, or the clone plugin."""
    if XTRABACKUP in server.version.programs:
        return
    ((version,),) = query(connection, "SELECT @@version")
    if make_sort_key(version) < CLONES:
        yield Finding(
            level="error",
            message=f"MySQL {version} has no clone plugin, and there is no XtraBackup of its series on this host",
            remedy="Install Percona XtraBackup of the server's series, or upgrade the server to 8.0.17 or later.",
        )
    elif not query(
        connection, "SELECT 1 FROM information_schema.plugins WHERE plugin_name = 'clone' AND plugin_status = 'ACTIVE'"
    ):
        yield Finding(
            level="error",
            message="the clone plugin is not loaded: the server cannot be copied",
            remedy="INSTALL PLUGIN clone SONAME 'mysql_clone.so';",
        )
    elif int(read_variables(connection, "VARIABLES", _PATIENCE).get(_PATIENCE, 0)):
        yield Finding(
            level="warning",
            message=f"{_PATIENCE} is not 0: after an interrupted backup, changes of tables wait that many minutes",
            remedy=f"SET PERSIST {_PATIENCE} = 0;",
        )


def _settings(connection: Connection[Cursor]) -> Iterator[Finding]:
    found = {
        name: value
        for kind in (
            "log_bin",
            "gtid_mode",
            "binlog_format",
            "binlog_expire_logs_seconds",
            "expire_logs_days",
        )
        for name, value in read_variables(connection, "VARIABLES", kind).items()
    }
    if found.get("log_bin") != "ON":
        yield Finding(
            level="warning",
            message="log_bin is OFF: there are no incrementals, each backup is a full",
            remedy="In the [mysqld] group of its option file: log_bin = binlog; then restart the server.",
        )
        return
    if found.get("gtid_mode") != "ON":
        yield Finding(
            level="warning",
            message=f"gtid_mode is {found.get('gtid_mode')}: incrementals depend on the names of binary logs",
            remedy="SET PERSIST enforce_gtid_consistency = ON; SET PERSIST gtid_mode = OFF_PERMISSIVE; "
            "SET PERSIST gtid_mode = ON_PERMISSIVE; SET PERSIST gtid_mode = ON;",
        )
    if found.get("binlog_format", "ROW") != "ROW":
        yield Finding(
            level="warning",
            message=f"binlog_format is {found['binlog_format']}: no incrementals, because a replay may lead to other rows",
            remedy="SET PERSIST binlog_format = 'ROW'; clients must reconnect.",
        )
    keeps = int(found.get("binlog_expire_logs_seconds") or 0) or int(found.get("expire_logs_days") or 0) * _DAY
    if 0 < keeps < _DAY:
        yield Finding(
            level="warning",
            message=f"binary logs are kept for {keeps} s only: after that the next backup is a full",
            remedy=f"SET PERSIST binlog_expire_logs_seconds = {7 * _DAY};",
        )


def _rights(connection: Connection[Cursor], server: Server) -> Iterator[Finding]:
    needed = _RIGHTS | (_FOR_XTRABACKUP if XTRABACKUP in server.version.programs else {})
    grants = [grant for (grant,) in query(connection, "SHOW GRANTS")]
    everywhere = " ".join(str(grant).partition(" ON ")[0] + "," for grant in grants if " ON *.* TO " in str(grant))
    if "ALL PRIVILEGES," in everywhere:
        return
    held = {right.strip() for right in everywhere.replace("GRANT ", "").split(",")}
    missing = [right for right in needed if right not in held]
    ((account,),) = query(connection, "SELECT CURRENT_USER()")
    name, _, host = account.rpartition("@")
    quoted = "@".join("'" + part.replace("'", "''") + "'" for part in (name, host))
    if missing:
        yield Finding(
            level="error",
            message=f"account {account} may not {', nor '.join(needed[right] for right in missing)}",
            remedy=f"GRANT {', '.join(missing)} ON *.* TO {quoted};",
        )
    if "CREATE USER" not in held:
        yield Finding(
            level="warning",
            message=f"account {account} may not manage databases and users",
            remedy="Name another account, if Strongroom shall manage them.",
        )


def _tables(connection: Connection[Cursor], server: Server) -> Iterator[Finding]:
    """Find tables of other engines, which a clone does not copy."""
    if XTRABACKUP in server.version.programs:
        return
    others = query(
        connection,
        "SELECT table_schema, table_name, engine FROM information_schema.tables WHERE engine NOT IN"
        " ('InnoDB', 'MEMORY', 'PERFORMANCE_SCHEMA') AND table_type = 'BASE TABLE'"
        " AND table_schema NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') LIMIT 4",
    )
    for schema, table, engine in others:
        name = ".".join("`" + part.replace("`", "``") + "`" for part in (schema, table))
        yield Finding(
            level="error",
            message=f"table {name} is {engine}, and a backup by the clone plugin contains only tables of InnoDB",
            remedy=f"ALTER TABLE {name} ENGINE = InnoDB;",
        )


def _encryption(connection: Connection[Cursor], server: Server) -> Iterator[Finding]:
    if XTRABACKUP in server.version.programs or make_sort_key(server.version.number) < CLONES:
        return
    try:
        if not keyring.has_keyring(connection):
            return
        encrypted = keyring.has_encryption(connection)
        if encrypted:
            keyring.require_keyring(connection, server)
    except ConfigurationError as error:
        yield Finding(level="error", message=error.message, remedy=error.remedy)
        return
    except pymysql.MySQLError as error:
        if split_error(error)[0] not in _NO_RIGHT:
            raise
        return  # missing rights are reported already
    if encrypted:
        yield Finding(level="warning", message=keyring.WARNING, remedy=keyring.REMEDY)
    yield Finding(
        level="warning",
        message="the server has a keyring: there are no incrementals, each backup is a full",
        remedy="Remove it if nothing is to be encrypted.",
    )
