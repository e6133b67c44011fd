"""Passwords of users, kept out of the binary log, the general log and the slow log of the server.

MySQL replaces passwords in all of them. MariaDB writes statements as they came, so it gets a hash; where a plugin has to look at
the password, it gets it by SET PASSWORD, which is the one statement that it rewrites.
"""

from __future__ import annotations

import secrets
from contextlib import suppress

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb.connection import query
from strongroom.datastores.innodb.hash import native_hash
from strongroom.datastores.protocol.servers import Server

_QUIET = ("SET SESSION sql_log_off=1", "SET SESSION long_query_time=31536000", "SET SESSION slow_query_log=0")


def create_user(connection: Connection[Cursor], server: Server, name: str, host: str, password: str) -> None:
    """Create an account with a password. The rest of the session is not in the general log or the slow log."""
    _keep_quiet(connection)
    if server.datastore == "mysql":
        query(connection, "CREATE USER %s@%s IDENTIFIED BY %s", name, host, password)
    elif not _has_checks(connection):
        query(connection, "CREATE USER %s@%s IDENTIFIED VIA mysql_native_password USING %s", name, host, native_hash(password))
    else:
        # the first password is random and never used, so it may be logged
        query(connection, "CREATE USER %s@%s IDENTIFIED BY %s", name, host, f"{secrets.token_urlsafe(32)}-aA1.")
        try:
            query(connection, "SET PASSWORD FOR %s@%s = PASSWORD(%s)", name, host, password)
        except pymysql.MySQLError:
            query(connection, "DROP USER %s@%s", name, host)
            raise


def change_password(connection: Connection[Cursor], server: Server, name: str, host: str, password: str) -> None:
    """Change the password of an account. The rest of the session is not in the general log or the slow log."""
    _keep_quiet(connection)
    if server.datastore == "mysql":
        query(connection, "ALTER USER %s@%s IDENTIFIED BY %s", name, host, password)
    elif not _has_checks(connection):
        query(connection, "ALTER USER %s@%s IDENTIFIED VIA mysql_native_password USING %s", name, host, native_hash(password))
    else:
        query(connection, "SET PASSWORD FOR %s@%s = PASSWORD(%s)", name, host, password)


def _keep_quiet(connection: Connection[Cursor]) -> None:
    """Switch logs off for this session, as far as the account may and the server has these variables."""
    for statement in _QUIET:
        with suppress(pymysql.MySQLError):
            query(connection, statement)


def _has_checks(connection: Connection[Cursor]) -> bool:
    """Whether plugins check passwords; they need the password itself, not a hash."""
    return bool(
        query(
            connection,
            "SELECT 1 FROM information_schema.plugins WHERE plugin_type = 'PASSWORD VALIDATION' AND plugin_status = 'ACTIVE'",
        )
    )
