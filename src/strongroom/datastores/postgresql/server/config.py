"""Files of a server that Strongroom runs itself: configuration, authentication, an empty database."""

from __future__ import annotations

import os
import re
from pathlib import Path

from strongroom.datastores.postgresql.files import wal
from strongroom.datastores.postgresql.profile import carry
from strongroom.datastores.postgresql.restore import first_start
from strongroom.datastores.postgresql.server import owners_files
from strongroom.datastores.postgresql.server.superuser import DEFAULT, find_superuser
from strongroom.datastores.protocol.profiles import read_restored_profile
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.mark import mark_unfinished
from strongroom.datastores.toolkit.socket import socket_path
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import ConfigurationError, ServerFailed
from strongroom.system.directories import make_directory, sync_directory
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner, find_user

_MAP = "strongroom"
_LEAST_WAL_MB = 64


def option_file(server: Server) -> Path:
    """The configuration file of a server that is not adopted."""
    return server.base_dir / "postgresql.conf"


def error_log(server: Server) -> Path:
    """The error log."""
    return server.base_dir / "log" / "error.log"


def find_owners_log(server: Server) -> tuple[Path | None, int]:
    """The newest error log of an adopted server, at its configured or Debian's default path, and the OS user that must own it."""
    try:
        owner = server.data_dir.stat().st_uid
        names = (read_text(server.data_dir / "current_logfiles") or "").splitlines()
    except OSError:
        return None, -1
    said = [server.data_dir / line.partition(" ")[2] for line in names if line.startswith("stderr ")]
    debian = Path("/var/log/postgresql") / f"postgresql-{server.version.series}-{server.data_dir.name}.log"
    return next((path for path in (*said, debian) if path.is_file()), None), owner


def get_port(server: Server) -> int:
    """The port, which is also part of the socket's name."""
    if server.socket is not None and (found := re.fullmatch(r"\.s\.PGSQL\.(\d{1,5})", server.socket.name)):
        return int(found[1])
    return server.port or 5432


def get_host(server: Server) -> str:
    """The directory of the socket, which the server names itself; for an adopted server without a socket, its address."""
    if server.is_adopted:
        if server.socket is None:
            return server.address or "127.0.0.1"
        return str(server.socket.parent if server.socket.name.startswith(".s.PGSQL.") else server.socket)
    return str(socket_dir(server))


def socket_dir(server: Server) -> Path:
    """The path of the socket of a server that is not adopted."""
    return (server.socket or socket_path(server.base_dir, f".s.PGSQL.{get_port(server)}")).parent


def configure(server: Server) -> None:
    """Write all files below ``base_dir``. They contain no secrets."""
    if server.is_adopted:
        return
    owner = find_user(server.user).owner
    for path in (server.base_dir, *(server.base_dir / name for name in ("run", "log", "tmp")), socket_dir(server)):
        make_directory(path, owner)
    write_file(server.base_dir / "pg_hba.conf", _logins(server), owner)
    write_file(server.base_dir / "pg_ident.conf", _accounts(server), owner)
    write_file(option_file(server), _dump(_options(server)), owner)


def keep_configuration(server: Server, new: Path) -> None:
    """Keep an adopted server's configuration, keys and certificates in its data directory when its data is replaced.

    A backup contains old ones, and no settings of ALTER SYSTEM.
    """
    if not server.is_adopted:
        return
    owners_files.keep(server.data_dir, new)
    text = read_text(server.data_dir / first_start.SETTINGS, limit=first_start.MOST)
    if text is not None:
        write_file(new / first_start.SETTINGS, first_start.add_settings(new, text), find_owner(new))
    restored = read_restored_profile(new)
    if restored is not None and restored.isolated:  # whatever the profile contains about subscriptions
        first_start.withhold_subscriptions(new)


def _logins(server: Server) -> str:
    """The content of pg_hba.conf: Strongroom's user logs in by the socket and OS user, everybody else by password.

    A superuser without a password cannot log in. The method ``md5`` accepts both kinds of passwords; it is used only for restored
    data with md5 passwords.
    """
    method = carry.choose_password_method(server.data_dir)
    return (
        f"local all,replication {_quote(find_superuser(server.data_dir))} peer map={_MAP}\n"
        f"local all all {method}\n"
        f"host all all 0.0.0.0/0 {method}\n"
        f"host all all ::/0 {method}\n"
    )


def _accounts(server: Server) -> str:
    name = _quote(find_superuser(server.data_dir))
    return "".join(f"{_MAP} {_quote(user)} {name}\n" for user in sorted({"root", server.user}))


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _between(low: int, value: int, high: int) -> str:
    return f"{max(low, min(value, high))}MB"


def wal_limit_mb(server: Server) -> int:
    """MB of WAL to keep for incrementals: as configured, or a tenth of the file system, at most half of the free space."""
    if server.wal_limit_mb is not None:
        return server.wal_limit_mb
    stat = os.statvfs(server.base_dir)
    blocks = min(stat.f_blocks // 10, stat.f_bavail // 2)
    return max(_LEAST_WAL_MB, blocks * stat.f_frsize >> 20)


def _options(server: Server) -> dict[str, str | int | Path]:
    ram = server.ram_mb
    options: dict[str, str | int | Path] = {
        "data_directory": server.data_dir,
        "hba_file": server.base_dir / "pg_hba.conf",
        "ident_file": server.base_dir / "pg_ident.conf",
        "external_pid_file": server.base_dir / "run" / "postgresql.pid",
        "listen_addresses": server.address or "",
        "port": get_port(server),
        "unix_socket_directories": f'"{socket_dir(server)}"',
        "unix_socket_permissions": "0700",
        "logging_collector": "on",
        "log_directory": error_log(server).parent,
        "log_filename": error_log(server).name,
        "log_rotation_age": 0,
        "log_rotation_size": 0,
        "log_timezone": "UTC",
        "timezone": "UTC",
        "lc_messages": "C",
        "password_encryption": "scram-sha-256",
        "shared_buffers": _between(16, ram // 4, 1 << 18),
        "effective_cache_size": _between(32, ram * 6 // 10, 1 << 20),
        "maintenance_work_mem": _between(16, ram // 16, 2048),
        "max_wal_size": _between(128, ram, 4096),
        **_required_options(server.data_dir, ram),
        "wal_level": "replica",
        "archive_mode": "off",
        "max_wal_senders": 10,
        "max_replication_slots": 10,
        "max_slot_wal_keep_size": f"{wal_limit_mb(server)}MB",
    }
    if int(server.version.series) >= 17:
        options |= {"summarize_wal": "on", "wal_summary_keep_time": "40d"}  # for incrementals
    return carry.add_settings(options, server)


def _required_options(data_dir: Path, ram: int) -> dict[str, str | int | Path]:
    """Limits for WAL: a server does not start if min_wal_size or max_wal_size is less than two WAL files, which may be large."""
    size = (wal.find_file_size(data_dir / "pg_wal") or 0) >> 20
    return {"min_wal_size": f"{2 * size}MB", "max_wal_size": _between(4 * size, ram, max(4096, 4 * size))} if size > 16 else {}


def _dump(options: dict[str, str | int | Path]) -> str:
    lines = []
    for name, value in options.items():
        text = str(value)
        if "\n" in text:
            raise ConfigurationError(f"{name} of PostgreSQL cannot hold a line break")
        lines.append(f"{name} = '" + text.replace("\\", "\\\\").replace("'", "''") + "'\n")
    return "".join(lines)


def build_command(server: Server) -> list[str]:
    """The server's command; for an adopted server, the one that its owner configured."""
    if server.is_adopted:
        return list(server.start_command)
    return [str(server.version.programs["server"]), "-D", str(server.data_dir), "-c", f"config_file={option_file(server)}"]


def initialize(server: Server, data_dir: Path, log: Path) -> None:
    """Create the system tables in an empty directory. Called as the OS user of the server.

    Text is sorted by its bytes, so that the order of indexes does not depend on the host's C library.
    """
    staging = data_dir / "staging"  # initdb needs an empty directory, and ``data_dir`` has the mark
    with mark_unfinished(data_dir):
        tool = Tool(
            [
                server.version.programs["initialize"],
                f"--pgdata={staging}",
                f"--username={DEFAULT}",
                "--encoding=UTF8",
                "--locale=C",
                "--lc-ctype=C.UTF-8",
                "--data-checksums",
                "--auth-local=peer",
                "--auth-host=scram-sha-256",
                "--no-instructions",
                "--no-sync",
            ],
            log,
        )
        try:
            tool.check()
        finally:
            tool.abort()
        if not (staging / "global" / "pg_control").is_file():
            raise ServerFailed(f"{tool.name} created no database in {data_dir}", remedy="Check the installation of PostgreSQL.")
        for path in list(staging.iterdir()):
            path.rename(data_dir / path.name)
        staging.rmdir()
        sync_directory(data_dir)
