"""Directories: made, walked, removed and made durable, also where another OS user may exchange any part of them for a link."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from strongroom.errors import ConfigurationError
from strongroom.system.users import Owner, User, name_user, set_owner

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SYNCS = 8


def make_directory(path: Path, owner: Owner | None = None, mode: int = 0o700, *, take_over: bool = False) -> None:
    """Make the directory if it does not exist, and set its mode and owner in any case. Raises ConfigurationError.

    With an owner, a directory of another user is refused (except root's and this process's) unless ``take_over``.
    """
    try:
        parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # may be exchanged for a link meanwhile
        try:
            with suppress(FileExistsError):
                os.mkdir(path.name, 0o700, dir_fd=parent)
            descriptor = os.open(path.name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        finally:
            os.close(parent)
        try:
            if owner is not None:
                uid = os.fstat(descriptor).st_uid
                if not take_over and uid not in (0, owner.uid, os.geteuid()):
                    raise ConfigurationError(
                        f"{path} belongs to another user ({name_user(uid)})", remedy="Remove it, or choose another directory."
                    )
                set_owner(descriptor, owner)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigurationError(
            f"{path} is not a usable directory: {error.strerror}",
            remedy=f"Let the OS user {name_user(os.geteuid())} write to {path.parent}, and remove what is not a directory.",
        ) from error


def sync_directory(path: Path) -> None:
    """Make renames in the directory durable. Raises OSError."""
    _sync(path, _DIRECTORY)


def sync_tree(top: Path) -> None:
    """Make every file and directory below ``top`` durable. Raises OSError.

    Several at a time, because a file system can write its journal once for many that wait.
    """

    def sync(entry: os.DirEntry[str]) -> None:
        if entry.is_dir(follow_symlinks=False):
            sync_directory(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            _sync(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    with ThreadPoolExecutor(_SYNCS, thread_name_prefix="sync") as pool:
        for _ in pool.map(sync, walk_tree(top)):
            pass
    sync_directory(top)


def _sync(path: Path | str, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def walk_tree(top: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a directory, without following links. Entries that vanish or cannot be read meanwhile are left out."""
    try:
        found = list(os.scandir(top))
    except OSError:
        return
    for entry in found:
        yield entry
        if entry.is_dir(follow_symlinks=False):
            yield from walk_tree(Path(entry.path))


@contextmanager
def open_directory(path: Path, user: User) -> Iterator[int]:
    """A descriptor of a directory of ``user``, who may exchange any part of its path for a link at any time. Raises OSError.

    The directory that the path leads to must belong to that user as well.
    """
    descriptor = os.open(path, _DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.geteuid() == 0 and os.fstat(descriptor).st_uid != user.uid:
            raise PermissionError(errno.EPERM, f"the directory does not belong to the OS user {user.name}", str(path))
        yield descriptor
    finally:
        os.close(descriptor)


def remove_entries(path: Path, user: User, is_wanted: Callable[[str], bool]) -> None:
    """Remove the wanted entries of a directory of ``user``, and everything below them. Raises OSError."""
    with open_directory(path, user) as descriptor:
        for name in filter(is_wanted, os.listdir(descriptor)):  # noqa: PTH208 - a descriptor
            if stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                shutil.rmtree(name, dir_fd=descriptor)
            else:
                os.unlink(name, dir_fd=descriptor)


def remove_tree(path: Path) -> None:
    """Remove a directory and everything in it, never the target of a link. A missing one is no error. Raises OSError."""
    if path.is_symlink():
        path.unlink()
        return
    shutil.rmtree(path, ignore_errors=False, onerror=_ignore_missing)


def _ignore_missing(_function: object, _path: object, info: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]
