"""The files of a data directory that belong in a base backup: those that the server itself would send.

The rules are the server's (src/backend/backup/basebackup.c; "Protocol, BASE_BACKUP" and "Backing Up The Data Directory" of the
manual): nothing that a server recreates at its start, no temporary files and tables, no content of unlogged tables, no WAL.

There are two differences. A tablespace becomes a directory below ``pg_tblspc``, as if it were inside the data directory. And a
symbolic link instead of data is refused: the server would silently omit everything behind it.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from strongroom.errors import Unsupported
from strongroom.system.directories import walk_tree
from strongroom.system.disks import measure_files, require_space

CONTROL = "global/pg_control"
_EMPTIED = frozenset({"pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"})
"""Directories that are empty in a backup."""
NO_DATA = _EMPTIED | {"pg_log"}
"""Directories that may be symbolic links."""
_SPACES = "pg_tblspc"
_DATA = frozenset(
    {"base", "global", "pg_commit_ts", "pg_logical", "pg_multixact", "pg_stat", "pg_twophase", "pg_xact", "PG_VERSION", _SPACES}
)
"""Top-level names that are part of the database. Everything else there belongs to the server's owner."""
_LEFT_OUT = frozenset(
    {
        "postmaster.pid",
        "postmaster.opts",
        "postgresql.auto.conf.tmp",
        "current_logfiles.tmp",
        "backup_label",
        "tablespace_map",
        "backup_manifest",
        "lost+found",
    }
)
_BEGINNINGS = ("pg_internal.init", "pgsql_tmp")
_WAL = "pg_wal"
_IN_WAL = ("archive_status", "summaries")
_FORKS = r"(?:_(?:fsm|vm))?(?:\.\d+)?"
_RELATION = re.compile(rf"([1-9]\d*){_FORKS}")
"""A file of a relation, of any fork except ``_init``, which marks the relation as unlogged."""
_TEMPORARY = re.compile(rf"t\d+_\d+(?:_init)?{_FORKS}")
_DATABASE = re.compile(rf"base/\d+|{_SPACES}/\d+/[^/]+/\d+")


def walk(top: Path) -> Iterator[tuple[str, bool]]:
    """Paths below ``top`` that belong in a backup, except ``CONTROL``; directories (True) come before their content.

    Files that disappear meanwhile are ignored: the replay of the WAL does not need them. Raises OSError; Unsupported for a link.
    """
    yield from _below(top, "")


def _below(top: Path, folder: str) -> Iterator[tuple[str, bool]]:
    try:
        with os.scandir(top / folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except FileNotFoundError:
        if not folder:
            raise
        return
    names = {entry.name for entry in entries}
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.name in _LEFT_OUT or entry.name.startswith(_BEGINNINGS) or path == CONTROL:
            continue
        if path == _WAL:  # often a link
            yield path, True
            yield from ((f"{_WAL}/{name}", True) for name in _IN_WAL if (top / _WAL / name).is_dir())
        elif path in _EMPTIED:  # often a link to a file system in memory
            yield path, True
        elif folder == _SPACES and entry.name.isdigit():
            yield path, True
            yield from _space(top, path)
        elif entry.is_symlink():
            if _is_data(path):
                raise explain_links([path], top)
        elif entry.is_dir(follow_symlinks=False):
            yield path, True
            yield from _below(top, path)
        elif entry.is_file(follow_symlinks=False) and not _is_fleeting(folder, entry.name, names):
            yield path, False


def _space(top: Path, path: str) -> Iterator[tuple[str, bool]]:
    """The files of servers with this version and catalog in a tablespace, which may also contain files of other versions."""
    inner = f"{path}/{version_directory(top)}"
    if (top / inner).is_dir():
        yield inner, True
        yield from _below(top, inner)


def version_directory(top: Path) -> str:
    """The name of the directory of this server's files in a tablespace."""
    with (top / CONTROL).open("rb") as file:
        (catalog,) = struct.unpack_from("<I", file.read(16), 12)
    return f"PG_{(top / 'PG_VERSION').read_text().strip()}_{catalog}"


def make_directory(top: Path, path: str) -> None:
    """Create a directory of a restore. For a tablespace, it may already exist as a link to its final place. Raises OSError."""
    full = top / path
    if not (path.partition("/")[0] == _SPACES and path.count("/") <= 1 and full.is_dir()):
        full.mkdir(mode=0o700)


def list_files(top: Path) -> Iterator[str]:
    """Paths of everything except directories, including tablespaces behind a link."""
    for entry in walk_tree(top):
        path = os.path.relpath(entry.path, top)
        if re.fullmatch(rf"{_SPACES}/\d+", path) and entry.is_symlink():
            behind = (below for below in walk_tree(Path(entry.path)) if not below.is_dir(follow_symlinks=False))
            yield from (os.path.relpath(below.path, top) for below in behind)
        elif not entry.is_dir(follow_symlinks=False):
            yield path


def require_space_for(target: Path, needed: int) -> None:
    """Like ``require_space``. If tablespaces are on other file systems, the space of all of them counts."""
    places = {path.stat().st_dev: path for path in (*(target / _SPACES).glob("*"), target)}
    free = {device: os.statvfs(path) for device, path in places.items()}
    if len(places) == 1 or sum(about.f_bavail * about.f_frsize for about in free.values()) < needed:
        require_space(target, needed)


def _is_data(path: str) -> bool:
    return path.partition("/")[0] in _DATA


def find_data_links(top: Path) -> list[str]:
    """Symbolic links instead of data, which a server never creates. Raises OSError."""
    found = []
    for name in sorted(_DATA):
        if (top / name).is_symlink():
            found.append(name)
        elif name != _SPACES:
            found += _links_below(top / name, name)
    return found + [f"{_WAL}/{name}" for name in sorted(_wal_links(top / _WAL))]


def _links_below(directory: Path, path: str) -> Iterator[str]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as found:
        for entry in found:
            if entry.name.startswith(_BEGINNINGS):  # often temporary files on another disk
                continue
            if entry.is_symlink():
                yield f"{path}/{entry.name}"
            elif entry.is_dir(follow_symlinks=False):
                yield from _links_below(Path(entry.path), f"{path}/{entry.name}")


def _wal_links(directory: Path) -> Iterator[str]:
    with suppress(FileNotFoundError), os.scandir(directory) as found:
        yield from (entry.name for entry in found if entry.is_symlink() and re.fullmatch(r"[0-9A-F]{24}", entry.name))


def explain_links(links: list[str], top: Path) -> Unsupported:
    """The error for symbolic links instead of data."""
    return Unsupported(
        f"data is behind symbolic links: {', '.join(links[:10])} in {top}; PostgreSQL leaves it out of a base backup",
        remedy="Stop the server and replace each link by its files, or use a tablespace.",
    )


def measure_data(top: Path) -> int:
    """Size of the database in bytes: data directory and tablespaces, wherever they are, without WAL."""
    inside = measure_files(top) - (0 if (top / _WAL).is_symlink() else measure_files(top / _WAL))
    return inside + sum(measure_files(path) for path in _outside(top))


def measure_wal(top: Path) -> int:
    """Size of the WAL in bytes, wherever it is."""
    return measure_files(top / _WAL)


def _outside(top: Path) -> list[Path]:
    """Directories of this server's files in tablespaces outside the data directory."""
    with suppress(OSError):
        links = [path for path in (top / _SPACES).iterdir() if path.is_symlink()]
        return [path / version_directory(top) for path in links]
    return []


def _is_fleeting(folder: str, name: str, names: set[str]) -> bool:
    """Whether the file belongs to a temporary table, or to an unlogged one, which is empty after a crash or restore."""
    if not _DATABASE.fullmatch(folder):
        return False
    if _TEMPORARY.fullmatch(name):
        return True
    relation = _RELATION.fullmatch(name)
    return relation is not None and f"{relation[1]}_init" in names
