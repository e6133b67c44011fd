"""SQL connections to a server of MariaDB or MySQL, over its own socket if it has one."""

from __future__ import annotations

import importlib
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql import _auth
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Notice
from strongroom.datastores.innodb.options import read_options
from strongroom.datastores.innodb.paths import credentials_file, error_log, find_named_log, find_socket
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.server_log import read_log
from strongroom.errors import ConfigurationError, NoConnections, ServerFailed, StrongroomError
from strongroom.system.users import current_user, find_user

PRODUCTS = {"mariadb": "MariaDB", "mysql": "MySQL"}
_REFUSED = {1044, 1045, 1130, 1227, 1524, 1698}
_EXPIRED = {1820, 1862}
_LOCKED = {3118, 4151}
_TAKEN = {1040, 1203, 1226}
"""No connection is free: in total, for this account, or for this account within an hour."""
_NO_PLUGIN = {1156, 1251, 2059, 2061}
_NO_TLS = 2026
CLIENT_ERRORS = range(2000, 3000)
GONE = (0, 1053, 2006, 2013, 2055)
"""The connection broke, or the server is shutting down."""
_LOG_IN = "Give a credentials file with an account that may log in and take backups."


def find_account(server: Server) -> tuple[str, str]:
    """User and password to connect with; without a credentials file the name of the OS user and no password."""
    path = credentials_file(server)
    if path is None:
        return current_user().name, ""
    options = read_options(path)
    return options.get("user") or current_user().name, options.get("password", "")


def describe_server(server: Server) -> str:
    """The server and its address, for messages."""
    place = find_socket(server) or f"{server.address}:{server.port or 3306}"
    return f"{PRODUCTS[server.datastore]} of {server.name or server.id} at {place}"


@contextmanager
def connect(server: Server, *, timeout: float = 10, patience: float = 600, tls: bool = False) -> Iterator[Connection[Cursor]]:
    """A connection with autocommit. ``timeout`` limits the connect, ``patience`` each response, in seconds.

    Over TCP it is encrypted if the server supports TLS; with ``tls`` always, also over the socket.

    Raises ServerFailed, with the end of the error log, if the server does not answer; ConfigurationError if the account or TLS is
    refused.
    """
    user, password = find_account(server)
    path = find_socket(server)
    if path is None and not _auth._have_cryptography:  # type: ignore[attr-defined]
        importlib.reload(_auth)  # a service imports it without cryptography: only logins over TCP without TLS need it
    try:
        connection = pymysql.connect(
            unix_socket=str(path) if path else None,
            host="localhost" if path else (server.address or "127.0.0.1"),
            port=server.port or 3306,
            user=user,
            password=password.encode(),  # PyMySQL would encode text as latin1
            ssl=_tls() if tls else None,
            ssl_disabled=path is not None and not tls,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=max(1, int(timeout)),
            read_timeout=patience,
            write_timeout=patience,
        )
    except (pymysql.MySQLError, RuntimeError) as error:
        raise _describe_refusal(server, user, error) from None
    try:
        yield connection
    except pymysql.MySQLError as error:
        code, text = split_error(error)
        if code in _EXPIRED:
            raise _describe_refusal(server, user, error) from None
        if isinstance(error, pymysql.OperationalError | pymysql.InterfaceError) and code in GONE:
            raise _explain_silence(server, text) from None
        raise
    finally:
        try:
            connection.close()
        except pymysql.MySQLError:
            connection._force_close()  # type: ignore[attr-defined]


def _describe_refusal(server: Server, user: str, error: Exception) -> StrongroomError:
    """The error if a connection fails, with one cause and a remedy."""
    code, text = split_error(error)
    account = f"the account {user!r}"
    if isinstance(error, RuntimeError) or code in _NO_PLUGIN:
        plugin = "ed25519" if "ed25519" in text else text
        return ConfigurationError(
            f"{describe_server(server)} requires an authentication plugin for {account} that Strongroom does not support: "
            f"{plugin}",
            remedy=f"Let the account log in by {_WAYS[server.datastore]}, or give a credentials file with another account.",
        )
    if code in _EXPIRED:
        return ConfigurationError(
            f"{describe_server(server)} refused {account}, whose password has expired: {text}",
            remedy="Set a new password, or use ALTER USER … PASSWORD EXPIRE NEVER; then correct the credentials file.",
        )
    if code in _LOCKED:
        return ConfigurationError(
            f"{describe_server(server)} has locked {account}: {text}", remedy="ALTER USER … ACCOUNT UNLOCK."
        )
    if code in _TAKEN:
        return NoConnections(
            f"{describe_server(server)} runs, but has no free connection: {text}",
            remedy="Close idle connections, or raise max_connections (max_user_connections for one account).",
        )
    if code in _REFUSED:
        return ConfigurationError(f"{describe_server(server)} refused {account}: {text}", remedy=_LOG_IN)
    if code == _NO_TLS:
        return ConfigurationError(
            f"{describe_server(server)} does not support TLS: {text}", remedy="Set tls_version and a certificate (ssl_cert)."
        )
    cause = getattr(error, "original_exception", None)
    path = find_socket(server)
    if path is not None and isinstance(cause, PermissionError):
        return ConfigurationError(f"the agent may not use the socket {path}", remedy="Run the agent as root.")
    if path is not None and isinstance(cause, FileNotFoundError):
        text = f"there is no socket {path}"
    elif isinstance(cause, ConnectionRefusedError):
        text = f"nothing listens at {path or f'{server.address}:{server.port or 3306}'}"
    elif isinstance(cause, TimeoutError):
        text = "it did not accept a connection in time"
    return _explain_silence(server, text)


_WAYS = {"mariadb": "mysql_native_password or unix_socket", "mysql": "caching_sha2_password or auth_socket"}


def _tls() -> ssl.SSLContext:
    """Does not verify the server, whose certificate is usually self-signed. Which data it serves is checked elsewhere."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _explain_silence(server: Server, text: str) -> ServerFailed:
    log, named = error_log(server), find_named_log(server)
    said = read_log(log) if log else read_log(named, owner=_find_uid(server))
    place = log or named
    return ServerFailed(
        f"{describe_server(server)} does not answer: {said.describe(text)}",
        remedy=f"See the error log of the server{f', {place}' if place else ''}.",
    )


def _find_uid(server: Server) -> int:
    """The OS user of the server; -1 if there is no user of its name."""
    try:
        return find_user(server.user).uid
    except ConfigurationError:
        return -1


def split_error(error: Exception) -> tuple[int, str]:
    """Code and text of an error of the server; code 0 if it has none."""
    args = error.args
    if len(args) >= 2 and isinstance(args[0], int):
        return args[0], str(args[1])
    return 0, str(error)


_NO_RIGHT = {1044, 1045, 1142, 1143, 1227, 1370}
"""Codes of the server for missing privileges."""


@contextmanager
def explain_refusals(server: Server) -> Iterator[None]:
    """Turn errors of statements into ConfigurationError (a right is missing) or ServerFailed, with the server's message."""
    try:
        yield
    except pymysql.MySQLError as error:
        code, text = split_error(error)
        if code in _NO_RIGHT:
            raise ConfigurationError(
                f"the account of {describe_server(server)} lacks a right: {text}",
                remedy="`strongroom check` names the rights that it needs.",
            ) from error
        raise ServerFailed(f"{describe_server(server)} failed to answer a query: {text}", remedy="See its error log.") from error


def report_unread(error: pymysql.MySQLError) -> Notice:
    """A notice for what the account may not read. It may have had more rights when the backup was taken.

    Raises the error when it is one of the connection.
    """
    code, text = split_error(error)
    if code == 0 or code in CLIENT_ERRORS or code == 1053:
        raise error
    return Notice(
        item="rights of the account",
        effect="warn",
        message=f"the restored server could not be compared with the backup completely: {text}",
        remedy="Check that the account has the rights that docs/adopt.md names.",
    )


def query(connection: Connection[Cursor], sql: str, *values: str) -> list[tuple[Any, ...]]:
    """Rows of a statement with ``values`` for its ``%s``. Without values the statement is sent unchanged."""
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return list(cursor.fetchall())


def quote_text(connection: Connection[Cursor], value: str) -> str:
    """A string literal, for statements that also contain names."""
    return str(connection.escape(value))


def quote_name(name: str) -> str:
    """A quoted name."""
    return "`" + name.replace("`", "``") + "`"


def read_variables(connection: Connection[Cursor], kind: str, names: str) -> dict[str, str]:
    """``SHOW GLOBAL VARIABLES|STATUS LIKE names`` as a mapping with lower-case names."""
    rows = query(connection, f"SHOW GLOBAL {kind} LIKE %s", names)
    return {str(name).lower(): str(value) for name, value in rows}


def find_server_pid(connection: Connection[Cursor]) -> int | None:
    """Process id of the server, if the kernel knows it: over a socket, and in the same PID namespace."""
    peer: socket.socket = connection._sock  # type: ignore[attr-defined]  # another connection would be logged as aborted
    if peer.family != socket.AF_UNIX:
        return None
    pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid) or None
