"""The walk of a data directory: links, mount points and files that a backup would miss or could not read."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from strongroom.artifact import Notice
from strongroom.datastores.postgresql.files.tree import NO_DATA
from strongroom.datastores.toolkit import nets
from strongroom.system.files import read_text

LOST_AND_FOUND = "lost+found"
_SKIP = ("pg_wal/*", "pg_tblspc/*", LOST_AND_FOUND, "log/*", "pg_log/*", "pg_stat_tmp/*", "pg_replslot/*/*", "pgsql_tmp/*")
_OWN_DIRECTORY = re.compile(r"(base|global|pg_(?!log\b|stat_tmp\b)[a-z_]+)(/.*)?")
_MOST_NAMED = 10
_LONGEST = 200


def examine_directory(data_dir: Path) -> list[Notice]:
    """Find links, mount points and files that would disturb a backup or a restore in place."""
    try:
        walked = nets.walk(data_dir, skip=_SKIP)
    except OSError:
        return []  # the server reports the rest; readers report files that they cannot read
    return [*_judge_oddities(data_dir, walked.oddities), *_judge_managers(data_dir)]


def _judge_oddities(data_dir: Path, oddities: Sequence[nets.Oddity]) -> Iterator[Notice]:
    owner = data_dir.stat().st_uid
    links: list[str] = []
    mounts: list[str] = []
    unreadable: list[str] = []
    others: list[str] = []
    for oddity in oddities:
        own = _OWN_DIRECTORY.fullmatch(oddity.path)
        if oddity.path == ".":
            yield Notice(
                item="mount points",
                effect="refuse_in_place",
                message=f"the data directory {data_dir} is a mount point, which cannot be renamed",
                remedy="Mount the file system one level higher and let the data directory lie in it.",
            )
        elif oddity.kind == "link" and oddity.path not in ("pg_wal", "base/pgsql_tmp") and not _is_tablespace(oddity.path):
            (links if own and oddity.path not in NO_DATA else others).append(f"{oddity.path} -> {oddity.target}")
        elif oddity.kind == "mount point" and oddity.path != LOST_AND_FOUND:
            mounts.append(oddity.path)
        elif oddity.kind == "special file":
            others.append(oddity.path)
        elif oddity.kind == "unreadable" or (oddity.kind == "foreign owner" and not _is_readable(data_dir / oddity.path, owner)):
            unreadable.append(oddity.path)
    if links:
        yield Notice(
            item="links in the data directory",
            effect="refuse",
            message=f"the data directory holds links that a backup would leave out: {_name_some(links)}",
            remedy="Stop the server and move what they lead to back into the data directory, or use a tablespace.",
        )
    if others:
        yield Notice(
            item="links in the data directory",
            effect="warn",
            message=f"links and special files that are not in the backup: {_name_some(others)}",
            remedy="A restore in place takes the links from the previous data directory.",
        )
    if unreadable:
        yield Notice(
            item="unreadable files",
            effect="refuse",
            message=f"files of the data directory that the OS user of the server cannot read: {_name_some(unreadable)}",
            remedy="Give them to the OS user of the server, or move them out of the data directory.",
        )
    if mounts:
        yield Notice(
            item="mount points",
            effect="warn",
            message=f"file systems are mounted in the data directory: {_name_some(mounts)}; a restore creates plain directories",
        )


def _is_tablespace(path: str) -> bool:
    return re.fullmatch(r"pg_tblspc/\d+", path) is not None


def _is_readable(path: Path, uid: int) -> bool:
    """Whether the server's OS user can read it, according to its mode."""
    with suppress(OSError):
        found = path.lstat()
        wanted = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(found.st_mode) else 0)
        return found.st_uid == uid or found.st_mode & wanted == wanted or (os.access(path, os.R_OK) and os.geteuid() == uid)
    return True


def _name_some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(name[:_LONGEST] for name in sorted(names)[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _judge_managers(data_dir: Path) -> Iterator[Notice]:
    """Notices about programs that start, stop and replace servers automatically."""
    text = None
    with suppress(Exception):
        text = read_text(data_dir / "patroni.dynamic.json", limit=1 << 20)
    if text is None and not (data_dir / "postgresql.base.conf").exists():
        return
    paused = False
    with suppress(ValueError, AttributeError):
        paused = json.loads(text or "{}").get("pause") is True
    yield Notice(
        item="cluster managers",
        effect="warn" if paused else "refuse_in_place",
        message="Patroni manages this server" + (" and is paused" if paused else ", and would act while it is restored in place"),
        remedy="Pause it (patronictl pause) before a restore in place; rebuild the replicas afterwards (patronictl reinit).",
    )
