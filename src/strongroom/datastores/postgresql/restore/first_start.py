"""The first start on a restored directory: the server replays the WAL there, and continues in a new timeline.

Nobody mistakes its WAL then for that of the server that was backed up. It does so where it finds ``recovery.signal``, which it
removes automatically. Its settings are in ``postgresql.auto.conf``, which wins over the files of an owner, and is taken out
again when the server has arrived.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

SIGNAL = "recovery.signal"
SETTINGS = "postgresql.auto.conf"
MOST = 4 << 20
"""Bytes of a file with settings."""
_SAID = {
    "restore_command": "false",  # all WAL is in the directory, and an owner's archive continues after the backup
    "recovery_end_command": "",
    "archive_cleanup_command": "",
    "recovery_target": "",
    "recovery_target_lsn": "",
    "recovery_target_name": "",
    "recovery_target_time": "",
    "recovery_target_xid": "",
    "recovery_target_timeline": "current",
    "hot_standby": "off",  # it would refuse to start where fewer connections are allowed than there
}
_LINES = [f"{name} = '{value}'" for name, value in _SAID.items()]
_NO_SUBSCRIPTIONS = "max_logical_replication_workers = '0'"
IN_PLACE = "allow_in_place_tablespaces = 'on'"
"""Without it, recovery ends at a tablespace that is a directory in the data directory."""


def prepare(data_dir: Path) -> None:
    """Ask the next server on this directory for it."""
    owner = find_owner(data_dir)
    write_file(data_dir / SIGNAL, "", owner)
    write_file(data_dir / SETTINGS, told(data_dir, read_text(data_dir / SETTINGS, limit=MOST) or ""), owner)


def told(data_dir: Path, settings: str) -> str:
    """``settings`` and, where the first start is still to come, what it needs."""
    if not (data_dir / SIGNAL).exists():
        return settings
    spaces = [IN_PLACE] if has_in_place_tablespaces(data_dir) else []
    return "".join(f"{line}\n" for line in [*settings.splitlines(), *_LINES, *spaces])


def withhold_subscriptions(data_dir: Path) -> None:
    """The next server on this directory, whose configuration is its owner's, runs no subscription until they are disabled."""
    lines = (read_text(data_dir / SETTINGS, limit=MOST) or "").splitlines()
    if lines[-1:] != [_NO_SUBSCRIPTIONS]:  # an earlier attempt may have been here
        write_file(data_dir / SETTINGS, "".join(f"{line}\n" for line in [*lines, _NO_SUBSCRIPTIONS]), find_owner(data_dir))


def release_subscriptions(data_dir: Path) -> None:
    """They are disabled in the data now: the start after this one goes by the owner's setting."""
    lines = (read_text(data_dir / SETTINGS, limit=MOST) or "").splitlines()
    if _NO_SUBSCRIPTIONS in lines:
        write_file(
            data_dir / SETTINGS, "".join(f"{line}\n" for line in _without(lines, [_NO_SUBSCRIPTIONS])), find_owner(data_dir)
        )


def _without(lines: list[str], unwanted: list[str]) -> list[str]:
    """The lines without the last occurrence of each unwanted one."""
    for line in unwanted:
        lines.reverse()
        lines.remove(line)
        lines.reverse()
    return lines


def has_in_place_tablespaces(data_dir: Path) -> bool:
    """A tablespace is a directory in the data directory, and no link."""
    with suppress(FileNotFoundError):
        return any(path.is_dir() and not path.is_symlink() for path in (data_dir / "pg_tblspc").iterdir())
    return False


def forget(data_dir: Path) -> None:
    """Remove its settings after the start, also after an ALTER SYSTEM, which rewrites the file."""
    lines = (read_text(data_dir / SETTINGS, limit=MOST) or "").splitlines()
    if not set(_LINES) <= set(lines):
        return
    lines = _without(lines, [*_LINES, *([IN_PLACE] if IN_PLACE in lines and has_in_place_tablespaces(data_dir) else [])])
    write_file(data_dir / SETTINGS, "".join(f"{line}\n" for line in lines), find_owner(data_dir))
