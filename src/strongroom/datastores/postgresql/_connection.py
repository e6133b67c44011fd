"""SQL connections to a server, over its own socket wherever there is one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.sql import SQL, Composed

from strongroom.datastores._process import tail
from strongroom.datastores._servers import Server
from strongroom.datastores.postgresql._account import account, recognized
from strongroom.datastores.postgresql._config import error_log, host_of, port_of
from strongroom.errors import ConfigurationError, ServerFailed

Connection = psycopg.Connection[tuple[Any, ...]]
_REFUSED = ("authentication failed", "no pg_hba.conf entry", "no password supplied", "role ", "is not permitted to log in")
_LET_IN = (
    "Let the OS user of the server in by its socket (pg_hba.conf: `local all,replication postgres peer`), "
    "or give a credentials file with an account that may take backups."
)


def where(server: Server) -> str:
    """The server and its place, for messages."""
    return f"PostgreSQL of {server.name or server.id} at {host_of(server)}"


@contextmanager
def connect(server: Server, database: str = "postgres", *, timeout: int = 10, patience: int = 600) -> Iterator[Connection]:
    """A connection with autocommit. ``timeout`` is for the connect, ``patience`` for each statement, in seconds.

    Raises ServerFailed, with the end of the error log, when nobody answers or the connection breaks; ConfigurationError when
    the account is refused.
    """
    us = account(server)
    try:
        with recognized(server):
            connection = psycopg.connect(
                host=host_of(server),
                port=port_of(server),
                user=us.user,
                password=us.password,
                dbname=database,
                connect_timeout=timeout,
                application_name="strongroom",
                client_encoding="UTF8",
                options=f"-c statement_timeout={patience * 1000}",
                autocommit=True,
            )
    except psycopg.OperationalError as error:
        if any(sign in str(error) for sign in _REFUSED):
            raise ConfigurationError(f"{where(server)} refused the account {us.user!r}: {error}", remedy=_LET_IN) from None
        raise silent(server, str(error)) from None
    try:
        yield connection
    except psycopg.OperationalError as error:
        if connection.closed or connection.broken:
            raise silent(server, str(error)) from None
        raise
    finally:
        connection.close()


def silent(server: Server, text: str) -> ServerFailed:
    """The error for a server that does not answer."""
    lines = tail(error_log(server))
    said = "; the end of its error log:\n" + "\n".join(lines) if lines else ""
    return ServerFailed(f"{where(server)} does not answer: {text.strip()}{said}", remedy="Look into the error log of the server.")


def query(connection: Connection, sql: LiteralString | Composed, *values: object) -> list[tuple[Any, ...]]:
    """Rows of a statement, its ``%s`` replaced by ``values``."""
    statement = SQL(sql) if isinstance(sql, str) else sql
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []
