"""The timelines that a server and its archive have used, so that a restore in place continues on an unused one.

At the end of a recovery, a server looks for history files with consecutive numbers and takes the first unused number. Empty
files in ``pg_wal`` make it skip numbers that are in use; they are removed when the server has started.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from strongroom.datastores.postgresql.restore import first_start
from strongroom.datastores.postgresql.server.connection import connect, query
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ConfigurationError, StrongroomError
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

RECORD = "timeline"
"""File in the instance's directory with the highest timeline that a restore has used."""
_MARK = "# reserved by Strongroom: "
_WAL = "pg_wal"
_NAME = re.compile(r"([0-9A-F]{8})(?:[0-9A-F]{16}(?:\.\w+)?|\.history)(?:\.(?:gz|bz2|lz4|zst|xz))?")
_MOST = 10_000
"""More timelines than any server has, so that a forged file name cannot fill the disk with placeholders."""
_DIRECTORY = re.compile(r"""(/[^\s'"%;|&<>$`]*)/%f""")
_COMMANDS = ("archive_command", "restore_command")


def find_highest(server: Server) -> int:
    """The highest known timeline; 1 if the server has no data yet."""
    found = [1]
    with suppress(ConfigurationError, ValueError):
        found.append(int(read_text(server.base_dir / RECORD) or "1"))
    for directory in (server.data_dir / _WAL, *_list_archives(server)):
        with suppress(OSError):
            found += [int(name[1], 16) for path in directory.iterdir() if (name := _NAME.fullmatch(path.name))]
    return max(number for number in found if number < _MOST)


def _list_archives(server: Server) -> Iterator[Path]:
    """Directories that the archive and restore commands use."""
    for command in _list_commands(server):
        for directory in _DIRECTORY.findall(command):
            yield Path(directory)


def _list_commands(server: Server) -> list[str]:
    try:
        with connect(server, timeout=5, patience=10) as connection:
            rows = query(connection, "SELECT setting FROM pg_settings WHERE name = ANY(%s)", list(_COMMANDS))
            return [str(setting) for (setting,) in rows]
    except StrongroomError:
        pass
    found = []
    for name in ("postgresql.conf", first_start.SETTINGS):
        with suppress(ConfigurationError):
            text = read_text(server.data_dir / name, limit=first_start.MOST) or ""
            found += [line for line in text.splitlines() if line.lstrip().startswith(_COMMANDS)]
    return found


def reserve(server: Server | None, target: Path, timeline: int, taken: int = 0) -> int:
    """Make the recovery of ``target``, whose data is on ``timeline``, end on a new timeline; return its number.

    It is higher than ``taken`` and than all that ``server``, which gets the data, has used; it is recorded for that server.
    """
    last = max(find_highest(server) if server is not None else 1, timeline, taken if taken < _MOST else 0)
    for number in range(timeline + 1, last + 1):
        path = target / _WAL / f"{number:08X}.history"
        if not path.exists():
            write_file(path, f"{_MARK}timeline {number} is taken\n", find_owner(target))
    if server is None:
        return last + 1
    with suppress(ConfigurationError):  # while this data exists, the history files in its WAL contain it, too
        write_file(server.base_dir / RECORD, f"{last + 1}\n", find_owner(server.base_dir))
    return last + 1


def release(data_dir: Path) -> None:
    """Remove the placeholders."""
    for path in (data_dir / _WAL).glob("????????.history"):
        with suppress(ConfigurationError):
            if (read_text(path) or "").startswith(_MARK):
                path.unlink(missing_ok=True)


def announce(target: Path, timeline: int) -> None:
    """Make the archive, if any, store the history of a timeline that began on a server without archiving."""
    if timeline > 1 and (target / _WAL / f"{timeline:08X}.history").exists():
        status = target / _WAL / "archive_status"
        status.mkdir(mode=0o700, exist_ok=True)
        if not (status / f"{timeline:08X}.history.done").exists():
            write_file(status / f"{timeline:08X}.history.ready", "", find_owner(target))
