"""Files of a server that Strongroom runs: configuration, Strongroom's account, an empty database."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Sequence
from pathlib import Path

from strongroom.artifact import Profile
from strongroom.datastores.innodb.hash import native_hash
from strongroom.datastores.innodb.options import format_options, read_options
from strongroom.datastores.innodb.paths import ACCOUNT, error_log, find_socket, option_file
from strongroom.datastores.mariadb.galera import config
from strongroom.datastores.mariadb.server import plugins
from strongroom.datastores.mariadb.server.settings import select_carried
from strongroom.datastores.protocol.profiles import RestoredProfile, read_restored_profile
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.mark import mark_unfinished
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import ServerFailed
from strongroom.system.directories import make_directory
from strongroom.system.files import read_text, write_file
from strongroom.system.users import Owner, find_user

_NO_ALLOWLIST = (
    "BEGIN NOT ATOMIC IF EXISTS (SELECT 1 FROM information_schema.tables WHERE table_schema='mysql'"
    " AND table_name='wsrep_allowlist') THEN DELETE FROM mysql.wsrep_allowlist; END IF; END;\n"
)
"""Removes the addresses of another cluster's nodes, because nodes with other addresses could not join."""


def configure(server: Server) -> None:
    """Write all files below ``base_dir``. The password of Strongroom's account is created once; other files are rewritten."""
    if server.is_adopted:
        return
    owner = find_user(server.user).owner
    socket = find_socket(server)
    assert socket is not None
    for path in (server.base_dir, *(server.base_dir / name for name in ("run", "log", "tmp")), socket.parent):
        make_directory(path, owner)
    restored = read_restored_profile(server.data_dir) or _read_sent_profile(server)
    secret = _secret(server, owner, socket)
    write_file(server.base_dir / "init.sql", _accounts_sql(server, secret, isolated=restored.isolated), owner)
    text = format_options("mysqld", _server_options(server, socket, restored))
    text += plugin_lines(plugins.list_libraries(server.version, restored.profile.plugins))
    if server.galera is not None:
        text += format_options("sst", config.transfer_options(server))
    write_file(option_file(server), text, owner)


def _read_sent_profile(server: Server) -> RestoredProfile:
    """The profile for data that was not restored here. Nodes of a restored cluster may have sent it, with their profile."""
    member = server.galera
    if member is None:
        return RestoredProfile(profile=Profile())
    settings = {name: value for name, value in member.settings.items() if name != "event_scheduler"}  # it may be a copy
    return RestoredProfile(profile=Profile(settings=settings, plugins=member.plugins))


def _secret(server: Server, owner: Owner, socket: Path) -> str:
    path = server.base_dir / "client.cnf"
    known = read_options(path).get("password") if read_text(path) is not None else None
    password = known or secrets.token_hex(24)
    write_file(path, format_options("client", {"user": ACCOUNT, "password": password, "socket": socket}), owner)
    return password


def _accounts_sql(server: Server, password: str, *, isolated: bool) -> str:
    """Statements that the server runs at every start, one per line, so that Strongroom can log in to restored data too.

    Each node of a cluster makes its accounts for itself, also while it is alone.
    """
    alone, transfer = ("SET SESSION wsrep_on=0;\n", config.account_sql(server.user)) if server.galera else ("", "")
    return alone + own_account_sql(password, transfer + (_NO_ALLOWLIST if isolated else ""))


def own_account_sql(password: str, more: str = "", *, name: str = ACCOUNT) -> str:
    """Statements that create Strongroom's account, or another one. Each must succeed on any data: the server stops at an error.

    Plugins that check passwords refuse a hash, which they cannot check, unless strict_password_validation is off. An existing
    account of this name that is expired, locked, or requires certificates can be used afterwards.
    """
    account = f"`{name}`@`localhost`"
    way = f"IDENTIFIED VIA mysql_native_password USING '{native_hash(password)}'"
    return (
        "SET SESSION sql_log_bin=0;\n"
        "SET SESSION autocommit=1;\n"
        "SET SESSION sql_mode='';\n"
        "SET @strict=@@GLOBAL.strict_password_validation;\n"
        "SET GLOBAL strict_password_validation=OFF;\n"
        f"CREATE USER IF NOT EXISTS {account} {way};\n"
        f"ALTER USER {account} {way} REQUIRE NONE PASSWORD EXPIRE NEVER ACCOUNT UNLOCK;\n"
        f"GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION;\n{more}"
        "SET GLOBAL strict_password_validation=@strict;\n"
    )


def plugin_lines(libraries: Sequence[str]) -> str:
    """Lines of an option file that load plugins."""
    return "".join(f"plugin_load_add={library}\n" for library in libraries)


def _between(low: int, value: int, high: int) -> str:
    return f"{max(low, min(value, high))}M"


def _sizes(ram_mb: int) -> dict[str, str | int | Path | None]:
    return {
        "innodb_buffer_pool_size": _between(16, ram_mb * 55 // 100, 1 << 20),
        "innodb_log_file_size": _between(16, ram_mb // 4, 2048),
        "aria_pagecache_buffer_size": _between(8, ram_mb // 16, 128),
        "key_buffer_size": _between(8, ram_mb // 64, 128),
    }


def _basedir(server: Server) -> Path:
    return server.version.programs["server"].parent.parent


def _server_options(server: Server, socket: Path, restored: RestoredProfile) -> dict[str, str | int | Path | None]:
    options: dict[str, str | int | Path | None] = {
        "basedir": _basedir(server),
        "datadir": server.data_dir,
        "socket": socket,
        "pid-file": server.base_dir / "run" / "mysqld.pid",
        "log_error": error_log(server),
        "tmpdir": server.base_dir / "tmp",
        "init-file": server.base_dir / "init.sql",
        "local_infile": 0,
        "loose-character_set_server": "utf8mb4",
        "loose-collation_server": "utf8mb4_general_ci",
        "loose-max_allowed_packet": "64M",
        "log_bin": "binlog",
        "binlog_format": "ROW",
        "sync_binlog": 1,
        "expire_logs_days": 7,
        "server_id": zlib.crc32(server.id.encode()) or 1,
        "innodb_flush_log_at_trx_commit": 1,
        # Write pages continuously: a backup copies, and a prepare replays, all redo since the last checkpoint.
        "innodb_max_dirty_pages_pct_lwm": 1,
        "innodb_io_capacity": 2000,
        "performance_schema": 0,
    }
    if server.address is None:
        options["skip-networking"] = None
    else:
        options |= {"bind-address": server.address, "port": server.port or 3306}
    if not restored.profile.facts.get("accounts with host names"):
        options["skip-name-resolve"] = None
    if restored.isolated:
        options["skip-slave-start"] = None
    carried = select_carried(restored.profile, isolated=restored.isolated, galera=server.galera is not None)
    cluster = config.server_options(server) if server.galera is not None else {}
    return options | _sizes(server.ram_mb) | carried | cluster


def build_command(server: Server) -> list[str]:
    """The command that starts the server; that of its owner for an adopted one."""
    if server.is_adopted:
        return list(server.start_command)
    return [str(server.version.programs["server"]), f"--defaults-file={option_file(server)}"]


def initialize(server: Server, data_dir: Path, log: Path) -> None:
    """Create the system tables in an empty directory. Called as the OS user of the server."""
    with mark_unfinished(data_dir):
        tool = Tool(
            [
                server.version.programs["initialize"],
                "--no-defaults",
                f"--basedir={_basedir(server)}",
                f"--datadir={data_dir}",
                f"--tmpdir={server.base_dir / 'tmp'}",
                "--auth-root-authentication-method=socket",
                f"--auth-root-socket-user={server.user}",
                "--skip-test-db",
                "--skip-name-resolve",
                f"--innodb_log_file_size={_sizes(server.ram_mb)['innodb_log_file_size']}",
            ],
            log,
        )
        try:
            tool.check()
        finally:
            tool.abort()
        if not (data_dir / "ibdata1").is_file() or not (data_dir / "mysql").is_dir():
            raise ServerFailed(f"{tool.name} created no database in {data_dir}", remedy="Check the installation of MariaDB.")
