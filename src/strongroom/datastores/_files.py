"""Files and directories that belong to the OS user of a server. Written so that this user cannot lead root astray."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from strongroom.errors import ConfigurationError, NoSpace

_SYNCS = 8

Owner = tuple[int, int]
"""uid and gid."""


def owner_named(user: str) -> Owner:
    """Ids of an OS user. Raises ConfigurationError when there is none."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise ConfigurationError(
            f"there is no OS user {user}", remedy="Install the database's package, or set `agent.servers_user`."
        ) from None
    return entry.pw_uid, entry.pw_gid


def owner_of(path: Path) -> Owner:
    """Ids of the owner of a file."""
    stat = path.stat()
    return stat.st_uid, stat.st_gid


def _give(fd: int, owner: Owner) -> None:
    if os.geteuid() == 0:
        os.fchown(fd, *owner)


def make_directory(path: Path, owner: Owner, mode: int = 0o700) -> None:
    """A directory with this owner and mode, made when it is missing. Refuses a link in its place."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=mode)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        raise ConfigurationError(f"{path} is not a usable directory: {error.strerror}") from error
    try:
        if os.fstat(fd).st_uid not in (0, owner[0], os.geteuid()):
            raise ConfigurationError(f"{path} belongs to another user", remedy="Remove it, or choose another data directory.")
        _give(fd, owner)
        os.fchmod(fd, mode)
    finally:
        os.close(fd)


def write_file(path: Path, text: str, owner: Owner, mode: int = 0o600) -> None:
    """Put ``text`` durably in place of what is there, at once or not at all."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(fd, mode)
            _give(fd, owner)
            os.fsync(fd)
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise ConfigurationError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def read_file(path: Path, *, limit: int = 64 * 1024) -> str | None:
    """Text of a small file, none when there is none. Raises ConfigurationError when it cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}", remedy="It must be readable by the OS user of the server."
        ) from error
    with os.fdopen(fd, "rb") as file:
        return file.read(limit).decode(errors="replace")


def sync_directory(path: Path) -> None:
    """Make renames in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def entries(top: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a directory, links not followed; what vanishes or cannot be read meanwhile is left out."""
    try:
        found = list(os.scandir(top))
    except OSError:
        return
    for entry in found:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from entries(Path(entry.path))


def bytes_below(top: Path) -> int:
    """Bytes of the files below a directory."""
    total = 0
    for entry in entries(top):
        with contextlib.suppress(OSError):
            if entry.is_file(follow_symlinks=False):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def require_space(place: Path, needed: int) -> None:
    """Raises NoSpace when a restore of ``needed`` bytes does not fit on the file system of ``place``."""
    stat = os.statvfs(place)
    free = stat.f_bavail * stat.f_frsize
    if free < needed:
        raise NoSpace(
            f"the restore needs about {needed >> 20} MiB on the file system of {place}, but only {free >> 20} MiB are free",
            remedy="Free space there, discard old data of earlier restores, or restore on another host.",
        )


def sync_tree(top: Path) -> None:
    """Make every file and directory below ``top`` durable. Raises OSError.

    Side by side, for a file system can write its journal once for many that wait.
    """

    def sync(entry: os.DirEntry[str]) -> None:
        if entry.is_dir(follow_symlinks=False):
            sync_directory(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    with ThreadPoolExecutor(_SYNCS, thread_name_prefix="sync") as pool:
        for _ in pool.map(sync, entries(top)):
            pass
    sync_directory(top)
