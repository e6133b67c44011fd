"""SQL connections to a server, over its own socket if it has one.

Sessions do not depend on the owner's settings for the server, the role or the database: such settings may prevent logins, end an
idle session, or make the first commit hang.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, LiteralString

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.sql import SQL, Composed

from strongroom.datastores.postgresql.server.account import Account, acting_as_owner, find_account
from strongroom.datastores.postgresql.server.config import error_log, find_owners_log, get_host, get_port
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.server_log import read_log
from strongroom.errors import ConfigurationError, NoConnections, ServerFailed, StillStarting, StrongroomError

Connection = psycopg.Connection[tuple[Any, ...]]
MAINTENANCE = "postgres"
"""The database to connect to, if it exists."""
_REFUSED = ("authentication failed", "no pg_hba.conf entry", "no password supplied", "role ", "is not permitted to log in")
_UNREACHABLE = ("Connection refused", "No such file", "timeout expired", "is starting up", "is shutting down", "recovery")
_TAKEN = ("too many clients already", "remaining connection slots are reserved", "too many connections for")
_LET_IN = (
    "Let the OS user of the server in by its socket (pg_hba.conf: `local all,replication postgres peer`), "
    "or give a credentials file with an account that may take backups."
)
_FOR_ALL = {
    "local_preload_libraries": "",  # a library that is not installed ends every new session
    "default_transaction_read_only": "off",
    "role": "none",
    "search_path": "pg_catalog",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "synchronous_commit": "local",  # otherwise commits would wait for an unreachable standby for ever
}
_SINCE = {"idle_session_timeout": (14, "0"), "transaction_timeout": (17, "0")}
_FOR_SUPERUSERS = {
    "session_preload_libraries": "",
    "lc_messages": "C",
    "zero_damaged_pages": "off",
    "ignore_checksum_failure": "off",
}
_FOR_SUPERUSERS_SINCE = {"event_triggers": (17, "off")}
_Known = tuple[str, int, str]
_is_superuser: dict[_Known, bool] = {}
_maintenance: dict[_Known, str] = {}


class _Text(Loader):
    """Loads names as text. Without an encoding they may contain any byte; invalid UTF-8 is kept as surrogates."""

    def load(self, data: Buffer) -> str:
        return bytes(data).decode("utf-8", "surrogateescape")


_STARTING = ("the database system is starting up", "not yet accepting connections", "the database system is in recovery mode")
"""Messages of a server that replays its WAL (``postmaster.c``, 10 to 19)."""


class _Bytes(Dumper):
    def dump(self, obj: str) -> bytes:
        return obj.encode("utf-8", "surrogateescape")


def escape_name(name: str) -> str:
    """A name for people, manifests and JSON: bytes that are not UTF-8 are shown as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def describe_server(server: Server) -> str:
    """The server and its place, for messages."""
    return f"PostgreSQL of {server.name or server.id} at {get_host(server)}"


@contextmanager
def connect(server: Server, database: str | None = None, *, timeout: int = 10, patience: int = 600) -> Iterator[Connection]:
    """A connection with autocommit. ``timeout`` limits connecting, ``patience`` each statement, in seconds.

    Without ``database``, it connects to ``postgres`` or another database that accepts connections.
    Raises ServerFailed, with the end of the error log, if the server does not answer or the connection breaks; ConfigurationError
    if the user is refused.
    """
    us = find_account(server)
    try:
        with acting_as_owner(server):
            connection = _open(server, us, database, timeout, patience)
    except psycopg.OperationalError as error:
        raise _describe_refusal(server, us.user, str(error)) from None
    try:
        yield connection
    except psycopg.OperationalError as error:
        if connection.closed or connection.broken:
            raise explain_silence(server, str(error)) from None
        raise
    finally:
        connection.close()


def _describe_refusal(server: Server, user: str, text: str) -> StrongroomError:
    """The error for a connection that was refused, with its cause and a remedy."""
    said = text.strip().rpartition("FATAL: ")[2].strip() or text.strip()
    if any(sign in text for sign in _TAKEN):
        return NoConnections(
            f"{describe_server(server)} runs, but has no free connection: {said}",
            remedy="Close idle connections, or raise max_connections.",
        )
    if "password authentication failed" in text:
        return ConfigurationError(
            f"{describe_server(server)} refused the account {user!r}: {said}",
            remedy="Correct the password in the credentials file. An expired one (VALID UNTIL) is refused in the same words.",
        )
    if any(sign in text for sign in _REFUSED):
        return ConfigurationError(f"{describe_server(server)} refused the account {user!r}: {said}", remedy=_LET_IN)
    if any(sign in text for sign in _STARTING):
        return StillStarting(f"{describe_server(server)} is starting up: {said}", remedy="Wait; it recovers.")
    if "No such file or directory" in text:
        return explain_silence(server, f"there is no socket .s.PGSQL.{get_port(server)} in {get_host(server)}")
    if "Permission denied" in text:
        return ConfigurationError(f"the agent may not use the socket in {get_host(server)}", remedy="Run the agent as root.")
    if "Connection refused" in text:
        return explain_silence(server, f"nothing listens at {get_host(server)}, port {get_port(server)}")
    if "FATAL: " in text:
        return ServerFailed(
            f"{describe_server(server)} refused the connection: {said}", remedy="Look into the error log of the server."
        )
    return explain_silence(server, said)


def _open(server: Server, us: Account, database: str | None, timeout: int, patience: int) -> Connection:
    known = (get_host(server), get_port(server), us.user)
    if database is not None:
        return _log_in(server, us, database, timeout, patience)
    first = _maintenance.get(known, MAINTENANCE)
    try:
        return _log_in(server, us, first, timeout, patience)
    except psycopg.OperationalError as error:
        if any(sign in str(error) for sign in (*_REFUSED, *_TAKEN, *_UNREACHABLE)):
            raise
        refused = error
    try:
        connection = _log_in(server, us, "template1", timeout, patience)
    except psycopg.OperationalError:
        raise refused from None
    # a session in template1 would block CREATE DATABASE
    rows = query(
        connection,
        "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2"
        " AND has_database_privilege(oid, 'CONNECT') AND datname <> %s ORDER BY oid",
        first,
    )
    for (name,) in rows:
        with suppress(psycopg.OperationalError):
            other = _log_in(server, us, name, timeout, patience)
            connection.close()
            _maintenance[known] = name
            return other
    return connection


def _log_in(server: Server, us: Account, database: str, timeout: int, patience: int) -> Connection:
    """Connect with settings that only a superuser may change; without them if they are refused, which only the attempt shows."""
    known = (get_host(server), get_port(server), us.user)
    if not server.is_adopted or _is_superuser.get(known, True):
        try:
            connection = _connect(server, us, database, timeout, patience, superuser=True)
        except psycopg.OperationalError as error:
            if not server.is_adopted or any(sign in str(error) for sign in (*_REFUSED, *_TAKEN, *_UNREACHABLE)):
                raise
            refused = error
        else:
            _is_superuser[known] = True
            return connection
        try:
            connection = _connect(server, us, database, timeout, patience, superuser=False)
        except psycopg.OperationalError:
            raise refused from None
        _is_superuser[known] = False
        return connection
    return _connect(server, us, database, timeout, patience, superuser=False)


def _connect(server: Server, us: Account, database: str, timeout: int, patience: int, *, superuser: bool) -> Connection:
    parameters: dict[str, object] = {
        "host": get_host(server),
        "port": get_port(server),
        "user": us.user,
        "password": us.password,
        "dbname": database,
        "connect_timeout": timeout,
        "application_name": "strongroom",
        "client_encoding": "UTF8",
        "options": session_options(server, patience, superuser=superuser),
    }
    connection = _start({name: value for name, value in parameters.items() if value is not None}, database)
    for name in ("text", "varchar", "name", "bpchar"):
        connection.adapters.register_loader(name, _Text)
    connection.adapters.register_dumper(str, _Bytes)
    if connection.info.parameter_status("server_encoding") == "SQL_ASCII":  # the client would reject bytes that it cannot decode
        connection.execute("SET client_encoding = SQL_ASCII")
    return connection


def _start(parameters: dict[str, Any], database: str) -> Connection:
    if escape_name(database) == database:
        return psycopg.connect(**parameters, autocommit=True)
    quoted = {name: str(value).replace("\\", "\\\\").replace("'", "\\'") for name, value in parameters.items()}
    conninfo = " ".join(f"{name}='{value}'" for name, value in quoted.items()).encode("utf-8", "surrogateescape")
    pgconn = psycopg.pq.PGconn.connect(conninfo)  # psycopg.connect accepts UTF-8 only
    if pgconn.status != psycopg.pq.ConnStatus.OK:
        raise psycopg.OperationalError(pgconn.get_error_message())
    pgconn.nonblocking = 1
    connection: Connection = psycopg.Connection(pgconn)
    connection.autocommit = True
    return connection


def session_options(server: Server, patience: int, *, superuser: bool) -> str:
    """Settings of Strongroom's sessions that override the owner's, for libpq's ``options``."""
    series = int(server.version.series)
    options = {"statement_timeout": str(patience * 1000)} | _FOR_ALL | _select_settings(_SINCE, series)
    if superuser:
        options |= _FOR_SUPERUSERS | _select_settings(_FOR_SUPERUSERS_SINCE, series)
    return " ".join(f"-c {name}={value}" for name, value in options.items())


def _select_settings(since: dict[str, tuple[int, str]], series: int) -> dict[str, str]:
    return {name: value for name, (oldest, value) in since.items() if series >= oldest}


def explain_silence(server: Server, text: str) -> ServerFailed:
    """The error for a server that does not answer."""
    if server.is_adopted:
        log, owner = find_owners_log(server)
    else:
        log, owner = error_log(server), None
    place = f", {log}" if log else ""
    return ServerFailed(
        f"{describe_server(server)} does not answer: {read_log(log, owner=owner).describe(text)}",
        remedy=f"Look into the error log of the server{place}.",
    )


def query(connection: Connection, sql: LiteralString | Composed, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement with ``values`` for its ``%s``, and return its rows."""
    statement = SQL(sql) if isinstance(sql, str) else sql
    with connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []
