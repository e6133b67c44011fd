"""Files of a server: its configuration, Strongroom's credentials, its socket and its error log."""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores.innodb.options import read_options
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.socket import socket_path
from strongroom.errors import ConfigurationError

ACCOUNT = "strongroom"
"""Strongroom's account in every server that is not adopted: ``strongroom``@``localhost``."""


def option_file(server: Server) -> Path:
    """The option file of a server that is not adopted."""
    return server.base_dir / "my.cnf"


def credentials_file(server: Server) -> Path | None:
    """The file with the account to connect with; none for the account of the OS user (unix_socket)."""
    if server.credentials_file is not None or server.is_adopted:
        return server.credentials_file
    return server.base_dir / "client.cnf"


def find_socket(server: Server) -> Path | None:
    """The socket of the server; an adopted one may have none."""
    if server.socket is not None or server.is_adopted:
        return server.socket
    return socket_path(server.base_dir)


def error_log(server: Server) -> Path | None:
    """The error log; none for an adopted server."""
    return server.base_dir / "log" / "error.log" if not server.is_adopted else None


def find_named_log(server: Server) -> Path | None:
    """The error log by the option file of an adopted server. Read it only if it belongs to the server's user."""
    if server.defaults_file is None:
        return None
    try:
        options = read_options(server.defaults_file, ("mysqld", "server", "mariadb", "mariadbd", "galera"))
    except ConfigurationError:
        return None
    value = options.get("log-error")
    return server.data_dir / value if value else None
