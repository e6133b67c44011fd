"""Files of a server: its configuration, our credentials, its socket and its error log."""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores.innodb import options as options_module
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.socket import socket_path
from strongroom.errors import ConfigurationError

ACCOUNT = "strongroom"
"""Our account in every server that we run: ``strongroom``@``localhost``."""


def option_file(server: Server) -> Path:
    """The configuration of a server that we run."""
    return server.base_dir / "my.cnf"


def credentials_file(server: Server) -> Path | None:
    """Where the account is that we connect with; none means the OS user's own (unix_socket)."""
    if server.credentials_file is not None or server.is_adopted:
        return server.credentials_file
    return server.base_dir / "client.cnf"


def socket_of(server: Server) -> Path | None:
    """The socket of the server; an adopted one may have none."""
    if server.socket is not None or server.is_adopted:
        return server.socket
    return socket_path(server.base_dir)


def error_log(server: Server) -> Path | None:
    """The error log, where we know it."""
    return server.base_dir / "log" / "error.log" if not server.is_adopted else None


def named_log(server: Server) -> Path | None:
    """Where the option file of an adopted server says that its error log is; read it only when it is the server's own."""
    if server.defaults_file is None:
        return None
    try:
        options = options_module.read(server.defaults_file, ("mysqld", "server", "mariadb", "mariadbd", "galera"))
    except ConfigurationError:
        return None
    value = options.get("log-error")
    return server.data_dir / value if value else None
