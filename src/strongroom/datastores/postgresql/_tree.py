"""Which files of a data directory belong into a base backup: those that the server itself would send.

The rules are the server's (src/backend/backup/basebackup.c; "Protocol, BASE_BACKUP" and "Backing Up The Data Directory" of the
manual): nothing that a server makes anew at its start, no temporary files and tables, no content of unlogged tables, no WAL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

CONTROL = "global/pg_control"
_EMPTIED = frozenset(
    {"pg_dynshmem", "pg_notify", "pg_replslot", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans", "pg_tblspc"}
)
"""Directories of which a backup holds the name alone. Servers with tablespaces, the content of the last one, are refused."""
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
"""A file of a relation, of any fork but the one that makes it known as unlogged."""
_TEMPORARY = re.compile(rf"t\d+_\d+(?:_init)?{_FORKS}")
_DATABASE = re.compile(r"base/\d+")


def walk(top: Path) -> Iterator[tuple[str, bool]]:
    """Paths below ``top`` that belong into a backup, directories (True) before what is in them; ``CONTROL`` is not among them.

    What vanishes meanwhile is passed over: the replay of the WAL does without it. Raises OSError.
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
        if path == _WAL:  # a link, often
            yield path, True
            yield from ((f"{_WAL}/{name}", True) for name in _IN_WAL if (top / _WAL / name).is_dir())
        elif entry.is_dir(follow_symlinks=False):
            yield path, True
            if entry.name not in _EMPTIED:
                yield from _below(top, path)
        elif entry.is_file(follow_symlinks=False) and not _is_fleeting(folder, entry.name, names):
            yield path, False


def _is_fleeting(folder: str, name: str, names: set[str]) -> bool:
    """Of a temporary table, or of an unlogged one, which is empty after a crash and after a restore."""
    if not _DATABASE.fullmatch(folder):
        return False
    if _TEMPORARY.fullmatch(name):
        return True
    relation = _RELATION.fullmatch(name)
    return relation is not None and f"{relation[1]}_init" in names
