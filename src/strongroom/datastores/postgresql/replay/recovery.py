"""A private server that replays WAL on restored data, ends its recovery where the WAL ends, and shuts down.

Nobody can log in to it, and it contacts nobody: no network, archiving, replication, subscriptions or autovacuum.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.artifact import Profile
from strongroom.datastores.postgresql.profile import carry
from strongroom.datastores.postgresql.replay.gate import Gate
from strongroom.datastores.postgresql.restore import first_start
from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit.socket import socket_path
from strongroom.datastores.toolkit.tools import Tool, read_lines
from strongroom.errors import NoSpace, ToolFailed, ToolStopped, Unsupported
from strongroom.system.directories import make_directory
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

_SOCKET = ".s.PGSQL.5432"
_SPACES = "pg_tblspc"
_READY = "ready"
_STATE_LINE = 7
"""Of postmaster.pid: the state of the server."""
_PACE, _FAST_PACE = 0.25, 0.02
"""Seconds between two looks at the server: while it replays, and at its end."""
_LOG_BYTES = 1 << 17
_NO_SPACES = ("could not create symbolic link", "could not create directory", "could not set permissions on directory")
_REMEDY = "Restore to a moment before it, or from another backup."


def recover(version: Version, data_dir: Path, work_dir: Path, gate: Gate, settings: str, on_progress: Callable[[], None]) -> None:
    """Run the server until it has replayed what the gate gives it. Raises ToolFailed, and what the gate could not give."""
    owner = find_owner(work_dir)
    sockets = socket_path(work_dir, _SOCKET).parent
    config, logins = work_dir / "replay.conf", work_dir / "replay_hba.conf"
    make_directory(sockets, owner)
    write_file(logins, "local all all reject\n", owner)
    places = {
        "restore_command": gate.command,
        "hba_file": str(logins),
        "ident_file": str(logins),
        "unix_socket_directories": f'"{sockets}"',
    }
    write_file(config, "".join(f"{name} = '{_quote(value)}'\n" for name, value in places.items()) + settings, owner)
    write_file(data_dir / first_start.SIGNAL, "", owner)
    try:
        with _without_tablespaces(data_dir):
            tool = Tool([version.programs["server"], "-D", data_dir, "-c", f"config_file={config}"], work_dir / "replay.log")
            _await_end(tool, data_dir, gate, on_progress)
    finally:
        shutil.rmtree(sockets, ignore_errors=True)


def make_settings(timeline: int, profile: Profile, segment_size: int, version: Version, data_dir: Path) -> str:
    """Its settings, but those of places. Without hot standby, it starts with fewer connections than the source."""
    return (
        f"recovery_target_timeline = '{timeline}'\n"
        "hot_standby = off\n"
        "listen_addresses = ''\n"
        "archive_mode = off\n"
        "autovacuum = off\n"
        "max_logical_replication_workers = 0\n"
        "synchronous_standby_names = ''\n"
        "wal_level = replica\n"
        "restart_after_crash = off\n"
        "logging_collector = off\n"
        "shared_buffers = 128MB\n"
        "fsync = off\n"  # everything is synced once, after success
        "lc_messages = 'C'\n"
        "log_timezone = 'UTC'\n"
        + (f"{first_start.IN_PLACE}\n" if first_start.has_in_place_tablespaces(data_dir) else "")
        + carry.format_recovery_settings(profile, segment_size, version)
    )


def _quote(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")


@contextmanager
def _without_tablespaces(data_dir: Path) -> Iterator[None]:
    """A tablespace that the log creates would be where the source has it: on this host, those may be files of the source."""
    directory = data_dir / _SPACES
    mode = directory.stat().st_mode & 0o777
    directory.chmod(0o500)
    try:
        yield
    finally:
        directory.chmod(mode)


def _await_end(tool: Tool, data_dir: Path, gate: Gate, on_progress: Callable[[], None]) -> None:
    try:
        while not _is_ready(data_dir):
            if not tool.running:
                tool.check()
                raise ToolFailed("the server ended before it had replayed the log")
            on_progress()
            if gate.changed.wait(_PACE):
                time.sleep(_FAST_PACE)
        tool.terminate()
        tool.check()
    except NoSpace:
        raise
    except ToolStopped:
        raise
    except ToolFailed as error:
        if gate.error is not None:
            raise gate.error from error
        raise _explain(error, tool.log) from error
    finally:
        tool.abort(0)


def _is_ready(data_dir: Path) -> bool:
    """Whether the server has ended its recovery, by the file that it has for its own tools."""
    lines = (read_text(data_dir / "postmaster.pid") or "").splitlines()
    return len(lines) > _STATE_LINE and lines[_STATE_LINE].strip() == _READY


def _explain(error: ToolFailed, log: Path) -> ToolFailed | Unsupported:
    lines = read_lines(log, _LOG_BYTES)
    if any(sign in line for line in lines for sign in _NO_SPACES) and any("tablespace" in line.lower() for line in lines):
        return Unsupported(
            "a tablespace was created in the log; on this host, it could be a directory that another server uses",
            remedy="Restore to a moment before it, or from a backup that was taken after it.",
        )
    return ToolFailed(f"the log cannot be replayed: {error.message}", remedy=error.remedy or _REMEDY)
