"""The first start on a restored directory: the server replays the WAL there, and continues on a new timeline.

So its WAL cannot be confused with that of the source. The file ``recovery.signal`` requests this; the server removes it
automatically. The settings for it are in ``postgresql.auto.conf``, which overrides the owner's files, and are removed when the
server has finished its recovery.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

SIGNAL = "recovery.signal"
SETTINGS = "postgresql.auto.conf"
MOST = 4 << 20
"""Maximum size of a file with settings in bytes."""
_SAID = {
    "restore_command": "false",  # all WAL is in the directory; the owner's archive also contains WAL after the backup
    "recovery_end_command": "",
    "archive_cleanup_command": "",
    "recovery_target": "",
    "recovery_target_lsn": "",
    "recovery_target_name": "",
    "recovery_target_time": "",
    "recovery_target_xid": "",
    "recovery_target_timeline": "current",
    "hot_standby": "off",  # otherwise the server fails if it allows fewer connections than the source
}
_LINES = [f"{name} = '{value}'" for name, value in _SAID.items()]
_NO_SUBSCRIPTIONS = "max_logical_replication_workers = '0'"
IN_PLACE = "allow_in_place_tablespaces = 'on'"
"""Without it, recovery fails if a tablespace is a directory inside the data directory."""


def prepare(data_dir: Path) -> None:
    """Make the next server on this directory perform a first start."""
    owner = find_owner(data_dir)
    write_file(data_dir / SIGNAL, "", owner)
    write_file(data_dir / SETTINGS, add_settings(data_dir, read_text(data_dir / SETTINGS, limit=MOST) or ""), owner)


def add_settings(data_dir: Path, settings: str) -> str:
    """``settings``, and if the first start has not happened yet, the settings for it."""
    if not (data_dir / SIGNAL).exists():
        return settings
    spaces = [IN_PLACE] if has_in_place_tablespaces(data_dir) else []
    return "".join(f"{line}\n" for line in [*settings.splitlines(), *_LINES, *spaces])


def withhold_subscriptions(data_dir: Path) -> None:
    """Keep the next server on this directory, with its owner's configuration, from running subscriptions until disabled."""
    lines = (read_text(data_dir / SETTINGS, limit=MOST) or "").splitlines()
    if lines[-1:] != [_NO_SUBSCRIPTIONS]:  # an earlier attempt may have written it
        write_file(data_dir / SETTINGS, "".join(f"{line}\n" for line in [*lines, _NO_SUBSCRIPTIONS]), find_owner(data_dir))


def release_subscriptions(data_dir: Path) -> None:
    """Restore the owner's setting for the start after this one: subscriptions are now disabled in the data."""
    lines = (read_text(data_dir / SETTINGS, limit=MOST) or "").splitlines()
    if _NO_SUBSCRIPTIONS in lines:
        write_file(
            data_dir / SETTINGS, "".join(f"{line}\n" for line in _remove_lines(lines, [_NO_SUBSCRIPTIONS])), find_owner(data_dir)
        )


def _remove_lines(lines: list[str], unwanted: list[str]) -> list[str]:
    """The lines without the last occurrence of each unwanted one."""
    for line in unwanted:
        lines.reverse()
        lines.remove(line)
        lines.reverse()
    return lines


def has_in_place_tablespaces(data_dir: Path) -> bool:
    """Whether a tablespace is a directory inside the data directory instead of a link."""
    with suppress(FileNotFoundError):
        return any(path.is_dir() and not path.is_symlink() for path in (data_dir / "pg_tblspc").iterdir())
    return False


def remove_settings(data_dir: Path) -> None:
    """Remove the settings of the first start, even after an ALTER SYSTEM, which rewrites the file."""
    lines = (read_text(data_dir / SETTINGS, limit=MOST) or "").splitlines()
    if not set(_LINES) <= set(lines):
        return
    lines = _remove_lines(lines, [*_LINES, *([IN_PLACE] if IN_PLACE in lines and has_in_place_tablespaces(data_dir) else [])])
    write_file(data_dir / SETTINGS, "".join(f"{line}\n" for line in lines), find_owner(data_dir))
