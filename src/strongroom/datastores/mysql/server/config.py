"""Files of a server that Strongroom runs: configuration, Strongroom's account, an empty database."""

from __future__ import annotations

import re
import secrets
import zlib
from pathlib import Path

from strongroom.datastores.innodb.options import format_options, read_options
from strongroom.datastores.innodb.paths import ACCOUNT, error_log, find_socket, option_file
from strongroom.datastores.innodb.versions import make_sort_key
from strongroom.datastores.mysql.profile import settings
from strongroom.datastores.mysql.server import plugins
from strongroom.datastores.mysql.server.password import hash_password
from strongroom.datastores.mysql.server.versions import find_base_dir
from strongroom.datastores.protocol.profiles import RestoredProfile, read_restored_profile
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.toolkit.keep import copy_entries
from strongroom.datastores.toolkit.mark import mark_unfinished
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import ServerFailed
from strongroom.system.directories import make_directory
from strongroom.system.files import read_text, write_file
from strongroom.system.users import Owner, find_user

Options = dict[str, str | int | Path | None]
BINLOG = "binlog"
"""Name of the binary log of a server that is not adopted."""
_KEPT = re.compile(r"(?!auto\.cnf$).+\.(?:pem|key|crt|cer|crl|cnf)|mysqld\.my")
_KEEP_BINLOG = 7 * 86400
"""Seconds that the binary log is kept, because the next incremental needs it."""
_SMALL = 1024
"""MB of memory below which the server's caches for tables are kept small."""
_ROOT_LOCKED = "ALTER USER `root`@`localhost` ACCOUNT LOCK;\n"


def configure(server: Server) -> None:
    """Write all files below ``base_dir``. The password of Strongroom's account is created once; other files are rewritten."""
    if server.is_adopted:
        return
    owner = find_user(server.user).owner
    socket = find_socket(server)
    assert socket is not None
    for path in (server.base_dir, *(server.base_dir / name for name in ("run", "log", "tmp")), socket.parent):
        make_directory(path, owner)
    restored = read_restored_profile(server.data_dir)
    sql = account_sql(_secret(server, owner, socket), server.version)
    write_file(
        server.base_dir / "init.sql", sql + (settings.make_statements(restored.profile.settings) if restored else ""), owner
    )
    write_file(server.base_dir / "initialize.sql", _ROOT_LOCKED, owner)
    write_file(option_file(server), format_options("mysqld", _server_options(server, socket, restored)), owner)


def keep_configuration(server: Server, new: Path) -> None:
    """Keep what SET PERSIST has set, the TLS keys that clients of an adopted server know, and the place of its keyring."""
    if not server.is_adopted:
        return
    for path in new.glob("*.pem"):  # created by the restore; the owner decides whether there are any
        path.unlink()
    if server.data_dir.is_dir():
        copy_entries(server.data_dir, new, _is_owners)


def _is_owners(name: str, is_directory: bool) -> bool:
    """Whether to keep an entry. Never ``auto.cnf``: its GTIDs would be used again. No database has a dot in its name."""
    return not name.startswith("#") and "." in name if is_directory else bool(_KEPT.fullmatch(name))


def _secret(server: Server, owner: Owner, socket: Path) -> str:
    path = server.base_dir / "client.cnf"
    known = read_options(path).get("password") if read_text(path) is not None else None
    password = known or secrets.token_hex(24)
    write_file(path, format_options("client", {"user": ACCOUNT, "password": password, "socket": socket}), owner)
    return password


def account_sql(password: str, version: Version) -> str:
    """Statements that the server runs at every start, one per line, so that Strongroom can log in to restored data too."""
    plugin, stored = hash_password(password, make_sort_key(version.number))
    account = f"`{ACCOUNT}`@`localhost`"
    return (
        "SET SESSION sql_log_bin=0;\n"
        f"CREATE USER IF NOT EXISTS {account} IDENTIFIED WITH {plugin} AS '{stored}';\n"
        f"ALTER USER {account} IDENTIFIED WITH {plugin} AS '{stored}' PASSWORD EXPIRE NEVER ACCOUNT UNLOCK;\n"
        f"GRANT ALL PRIVILEGES ON *.* TO {account} WITH GRANT OPTION;\n"
    )


def _between(low: int, value: int, high: int) -> str:
    return f"{max(low, min(value, high))}M"


def redo_options(version: Version, ram_mb: int) -> Options:
    """The size of the redo log; the option has another name since 8.0.30."""
    if make_sort_key(version.number) >= (8, 0, 30):
        return {"innodb_redo_log_capacity": _between(32, ram_mb // 4, 4096)}
    return {"innodb_log_file_size": _between(16, ram_mb // 8, 2048)}


def _server_options(server: Server, socket: Path, restored: RestoredProfile | None) -> Options:
    number = make_sort_key(server.version.number)
    options: Options = {
        "basedir": find_base_dir(server.version),
        "datadir": server.data_dir,
        "socket": socket,
        "pid-file": server.base_dir / "run" / "mysqld.pid",
        "log_error": error_log(server),
        "tmpdir": server.base_dir / "tmp",
        "secure_file_priv": "NULL",
        "init-file": server.base_dir / "init.sql",
        "skip-name-resolve": None,
        "local_infile": 0,
        "character_set_server": "utf8mb4",
        "max_allowed_packet": "64M",
        "log_bin": BINLOG,
        "sync_binlog": 1,
        "server_id": zlib.crc32(server.id.encode()) or 1,
        "gtid_mode": "ON",
        "enforce_gtid_consistency": "ON",
        "innodb_flush_log_at_trx_commit": 1,
        "innodb_buffer_pool_size": _between(16, server.ram_mb * 55 // 100, 1 << 20),
        "innodb_log_buffer_size": _between(4, server.ram_mb // 16, 64),
    }
    if server.ram_mb < _SMALL:
        options |= {"table_definition_cache": 800, "table_open_cache": 400}
    if number >= (8,):
        options |= {"mysqlx": "OFF", "binlog_expire_logs_seconds": _KEEP_BINLOG}
    else:
        options |= {"expire_logs_days": _KEEP_BINLOG // 86400}
    libraries = plugins.authentication_libraries(server.version, restored.profile.plugins if restored else ())
    if number >= (8, 0, 17):
        # a worker that dies must not block DDL: its copy is never continued (since 8.0.24)
        options["loose_clone_donor_timeout_after_network_failure"] = 0
        libraries.insert(0, plugins.CLONE_LIBRARY)
    if libraries:
        options["plugin-load-add"] = ";".join(libraries)
    if server.address is None:
        options["skip-networking"] = None
    else:
        options |= {"bind-address": server.address, "port": server.port or 3306}
    return options | redo_options(server.version, server.ram_mb) | _carried(restored, number)


def _carried(restored: RestoredProfile | None, number: tuple[int, ...]) -> Options:
    """Options that restored data needs or that change results. A copy with a new name neither runs events nor replicates."""
    if restored is None:
        return {}
    found: Options = {**settings.make_options(restored.profile.settings)}
    if restored.isolated:
        found |= {
            "loose_event_scheduler": "OFF",
            "skip_replica_start" if number >= (8, 0, 26) else "skip_slave_start": "ON",
            "loose_group_replication_start_on_boot": "OFF",
        }
    return found


def build_command(server: Server) -> list[str]:
    """The command that starts the server; that of its owner for an adopted one."""
    if server.is_adopted:
        return list(server.start_command)
    return [str(server.version.programs["server"]), f"--defaults-file={option_file(server)}"]


def initialize(server: Server, data_dir: Path, log: Path) -> None:
    """Create the system tables in an empty directory. Called as the OS user of the server.

    Its ``root@localhost``, who would have no password, is locked: nobody needs it.
    """
    staging = data_dir / "staging"  # the server needs an empty directory, and ``data_dir`` has the mark
    with mark_unfinished(data_dir):
        tool = Tool(
            [
                server.version.programs["server"],
                "--no-defaults",
                "--initialize-insecure",
                f"--basedir={find_base_dir(server.version)}",
                f"--datadir={staging}",
                f"--tmpdir={server.base_dir / 'tmp'}",
                f"--init-file={server.base_dir / 'initialize.sql'}",
                "--skip-log-bin",
                *(f"--{name}={value}" for name, value in redo_options(server.version, server.ram_mb).items()),
            ],
            log,
        )
        try:
            tool.check()
        finally:
            tool.abort()
        if not (staging / "ibdata1").is_file() or not (staging / "mysql").is_dir():
            raise ServerFailed(f"{tool.name} created no database in {data_dir}", remedy="Check the installation of MySQL.")
        for path in list(staging.iterdir()):
            path.rename(data_dir / path.name)
        staging.rmdir()
