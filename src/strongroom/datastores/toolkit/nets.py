"""Three searches for what no setting names: open files, odd entries of the data directory, files missing in a stream.

They report facts; each driver decides which of them are expected and what the others mean.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

OddKind = Literal["link", "mount point", "special file", "unreadable", "foreign owner"]
_STANDARD = frozenset("012")
"""Standard input, output and error are not data."""


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A regular file outside the data directory that a process of the server holds open."""

    path: Path
    writes: bool
    """It was opened for writing."""
    reads: bool = True
    """It was opened for reading, as files of tables are. A file that is only written is a log or an export."""


def find_open_files(pids: Iterable[int], data_dir: Path) -> list[OpenFile] | None:
    """Regular files outside ``data_dir`` that these processes hold open, by path, without deleted files.

    None if the kernel denies access, or if a process has another mount namespace (a container): then nothing is known.
    Closed tables are not found, nor are keys and certificates, which a server reads once.
    """
    inside = os.path.realpath(data_dir)
    found: dict[str, tuple[bool, bool]] = {}
    for pid in pids:
        process = Path(f"/proc/{pid}")
        try:
            if (process / "ns/mnt").readlink() != Path("/proc/self/ns/mnt").readlink():
                return None
            descriptors = list((process / "fd").iterdir())
        except OSError:
            return None
        for descriptor in descriptors:
            if descriptor.name in _STANDARD:
                continue
            with suppress(OSError, ValueError):  # closed meanwhile
                target = os.fspath(descriptor.readlink())
                status = descriptor.stat()
                if not stat.S_ISREG(status.st_mode) or not status.st_nlink or not target.startswith("/"):
                    continue
                if not is_below(target, inside):
                    writes, reads = _modes(process / "fdinfo" / descriptor.name)
                    before = found.get(target, (False, False))
                    found[target] = (writes or before[0], reads or before[1])
    return [OpenFile(Path(path), writes, reads) for path, (writes, reads) in sorted(found.items())]


def _modes(fdinfo: Path) -> tuple[bool, bool]:
    """Whether a file is open for writing, and for reading."""
    flags = re.search(r"^flags:\s+([0-7]+)", fdinfo.read_text(encoding="ascii"), re.MULTILINE)
    mode = int(flags[1], 8) & os.O_ACCMODE if flags is not None else os.O_RDONLY
    return mode != os.O_RDONLY, mode != os.O_WRONLY


def is_below(path: str | Path, directory: str | Path) -> bool:
    """Whether the path is the directory or inside it. Links are not resolved."""
    return os.path.commonpath([path, directory]) == os.fspath(directory).rstrip("/") or os.fspath(directory) == "/"


@dataclass(frozen=True, slots=True)
class Oddity:
    """An entry of a data directory that is not a plain file or directory of the server's user."""

    path: str
    """Relative to the data directory; ``.`` is the data directory itself."""
    kind: OddKind
    target: str = ""
    """The target of a link; the owner's uid of a foreign file."""


@dataclass(frozen=True, slots=True)
class Walked:
    """The content of a data directory."""

    files: dict[str, int]
    """Bytes of every regular file, by its path relative to the data directory."""
    directories: Sequence[str]
    oddities: Sequence[Oddity]
    inodes: Mapping[str, tuple[int, int]]
    """Inode and time of the last change of every regular file: numbers of inodes are reused immediately."""


def walk(data_dir: Path, *, skip: Collection[str] = ()) -> Walked:
    """Read everything in a data directory with ``lstat``. Links are not followed, mount points are not entered.

    ``skip`` has shell patterns of relative paths to ignore. Entries that disappear meanwhile are left out.
    Raises OSError if the data directory itself cannot be read.
    """
    top = data_dir.stat()
    files: dict[str, int] = {}
    directories: list[str] = []
    oddities: list[Oddity] = []
    inodes: dict[str, tuple[int, int]] = {}
    with suppress(OSError):
        if data_dir.resolve().parent.stat().st_dev != top.st_dev:
            oddities.append(Oddity(".", "mount point"))

    def look(directory: str, below: str) -> Iterator[tuple[str, str]]:
        """Read the entries of one directory; yields the directories to read next."""
        with os.scandir(directory) as entries:
            for entry in entries:
                path = below + entry.name
                if any(fnmatch.fnmatchcase(path, pattern) for pattern in skip):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                kind = _kind_of(status, entry.path, top)
                if kind == "unreadable" and not os.path.lexists(entry.path):  # removed meanwhile
                    continue
                if kind is not None:
                    oddities.append(Oddity(path, kind, _target(entry.path, kind, status)))
                if stat.S_ISREG(status.st_mode):
                    files[path] = status.st_size
                    inodes[path] = (status.st_ino, status.st_ctime_ns)
                elif stat.S_ISDIR(status.st_mode):
                    directories.append(path)
                    if kind in (None, "foreign owner"):
                        yield entry.path, path + "/"

    waiting = [(os.fspath(data_dir), "")]
    while waiting:
        directory, below = waiting.pop()
        try:
            waiting.extend(look(directory, below))
        except FileNotFoundError:
            if not below:
                raise
    return Walked(files, directories, oddities, inodes)


def _kind_of(status: os.stat_result, path: str, top: os.stat_result) -> OddKind | None:
    if stat.S_ISLNK(status.st_mode):
        return "link"
    if status.st_dev != top.st_dev:
        return "mount point"
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
        return None if stat.S_ISSOCK(status.st_mode) else "special file"
    if not os.access(path, os.R_OK | (os.X_OK if stat.S_ISDIR(status.st_mode) else 0), effective_ids=True):
        return "unreadable"
    return "foreign owner" if status.st_uid != top.st_uid else None


def _target(path: str, kind: OddKind, status: os.stat_result) -> str:
    if kind == "link":
        with suppress(OSError):
            return os.fspath(Path(path).readlink())
    return str(status.st_uid) if kind == "foreign owner" else ""


def find_missing(walked: Iterable[str], stream: Collection[str], *, known: Collection[str] = ()) -> list[str]:
    """Files of the data directory that a stream lacks, sorted. Files that match the shell patterns ``known`` are ignored."""
    return sorted(
        path for path in walked if path not in stream and not any(fnmatch.fnmatchcase(path, pattern) for pattern in known)
    )
