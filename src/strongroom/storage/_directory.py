"""A store in a directory. It uses no library, so that it controls when data becomes durable.

An object is one file. It is written under a hidden temporary name in its folder, synced, and then renamed; after that the folder
is synced. A writer holds a lock (flock) on its temporary file. A temporary file without a lock was left by a killed writer and
can be removed. Folders are walked without following symbolic links, because several OS users may write here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from strongroom.errors import StorageDenied, StorageError, StorageExists, StorageFull, StorageNotFound
from strongroom.storage._key import split, split_prefix
from strongroom.storage._protocol import Capabilities, Stat
from strongroom.system.direct import Output
from strongroom.system.users import name_user

_PRIVATE = 0o700
_TRAVERSABLE = 0o711
_SHARED = 0o3770
"""Set-group-id, so that the group stays; sticky, so that one user cannot remove what another wrote."""
_SEVERAL = "_"
"""How the name of a folder in a container begins that does not belong to one backup: every server writes to it."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}", re.DOTALL)
"""Temporary names of objects. Other hidden files were not written by this store."""
_ATTEMPTS = 10
"""Another process may remove a folder between its creation and its use, when it deletes the last object in it."""


class DirectoryStore:
    """Objects as files below ``top``. ``top`` is created if it is missing.

    With ``gid`` the top, the containers and the folders ``_…`` in them belong to that group, which may write to them. Everything
    else below a container belongs only to the OS user that writes it.
    """

    capabilities = Capabilities(server_checksum=False, conditional_create=True)

    def __init__(self, top: Path, *, gid: int | None = None) -> None:
        self.top = top.absolute()
        self._gid = gid
        with self._translate_errors(""):
            self._make_top()

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
        *folder, name = split(key)
        with self._translate_errors(key):
            for _ in range(_ATTEMPTS):
                with contextlib.suppress(FileNotFoundError), self._folder(folder, make=True) as directory:
                    return self._write(directory, key, name, data, create)
        raise StorageError(
            f"cannot store {self.url(key)}: its folder does not exist", remedy=f"Check that {self.top} is mounted."
        )

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        *folder, name = split(key)
        with self._translate_errors(key), self._folder(folder) as directory, _open_file(name, directory) as file:
            size = _stat_file(file).st_size
            end = size if length is None else min(size, start + length)
            pieces = []
            while start < end and (piece := os.pread(file, end - start, start)):
                pieces.append(piece)
                start += len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def head(self, key: str) -> Stat:
        *folder, name = split(key)
        with self._translate_errors(key), self._folder(folder) as directory, _open_file(name, directory) as file:
            return _make_stat(key, _stat_file(file))

    def list(self, prefix: str) -> Iterator[Stat]:
        with self._translate_errors(prefix):
            yield from self._walk(split_prefix(prefix))

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Includes folders that hold only what a killed writer left, so that ``delete`` can remove them."""
        parts = split_prefix(prefix)
        with self._translate_errors(prefix):
            for entry in self._entries(parts):
                if (
                    entry.is_dir(follow_symlinks=False)
                    and not entry.name.startswith(".")
                    and self._has_files([*parts, entry.name])
                ):
                    yield entry.name

    def delete(self, keys: Iterable[str]) -> None:
        touched: set[tuple[str, ...]] = set()
        for key in keys:
            *folder, name = split(key)
            touched.add(tuple(folder))
            with (
                self._translate_errors(key),
                contextlib.suppress(FileNotFoundError, IsADirectoryError),
                self._folder(folder) as directory,
            ):
                os.unlink(name, dir_fd=directory)
        for parts in touched:
            with self._translate_errors("/".join(parts)):
                self._clean_folder(parts)

    def url(self, key: str) -> str:
        return (self.top / key).as_uri()

    def close(self) -> None:
        """Do nothing: no file is kept open."""

    # --- folders

    def _make_top(self) -> None:
        if not self.top.exists():
            for folder in [f for f in reversed(self.top.parents) if not f.exists()]:
                _make_durably(folder, _TRAVERSABLE)
            _make_durably(self.top, _PRIVATE)
            self._share(self.top)
        elif self._gid is not None and os.geteuid() == 0 and self.top.stat().st_gid != self._gid and self._is_empty():
            self._share(self.top)  # a disk or a folder that was prepared for this store

    def _is_empty(self) -> bool:
        return not {entry.name for entry in self.top.iterdir()} - {"lost+found"}

    def _share(self, folder: Path | int) -> None:
        if self._gid is not None:
            if os.geteuid() == 0:
                os.chown(folder, -1, self._gid)
            os.chmod(folder, _SHARED)  # noqa: PTH101  (a descriptor too)

    @contextlib.contextmanager
    def _folder(self, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """A descriptor of the folder. No part of the path is followed if it is a symbolic link."""
        current = os.open(self.top, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for depth, part in enumerate(parts):
                try:
                    below = os.open(part, _FOLDER, dir_fd=current)
                except FileNotFoundError:
                    if not make:
                        raise
                    is_shared = depth == 0 or (depth == 1 and part.startswith(_SEVERAL))
                    below = self._make_folder(part, current, shared=is_shared)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def _make_folder(self, name: str, parent: int, *, shared: bool) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _PRIVATE, dir_fd=parent)
            made = os.open(name, _FOLDER, dir_fd=parent)
            if shared:
                self._share(made)
            os.fsync(parent)
            return made
        return os.open(name, _FOLDER, dir_fd=parent)

    def _entries(self, parts: Sequence[str]) -> Sequence[os.DirEntry[str]]:
        """The content of the folder, in the order of the keys; empty if the folder does not exist."""
        try:
            with self._folder(parts) as directory, os.scandir(directory) as found:
                entries = [entry for entry in found if _still_exists(entry)]
        except FileNotFoundError:
            return []
        return sorted(entries, key=lambda e: (e.name + "/" if e.is_dir(follow_symlinks=False) else e.name).encode())

    def _walk(self, parts: Sequence[str]) -> Iterator[Stat]:
        for entry in self._entries(parts):
            if entry.name.startswith("."):
                continue
            here = [*parts, entry.name]
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(here)
            elif entry.is_file(follow_symlinks=False):
                yield _make_stat("/".join(here), entry.stat(follow_symlinks=False))

    def _has_files(self, parts: Sequence[str]) -> bool:
        """Whether there is any file below, including what a killed writer left. A folder of another OS user counts as one."""
        try:
            entries = self._entries(parts)
        except PermissionError:
            return True
        return any(not e.is_dir(follow_symlinks=False) or self._has_files([*parts, e.name]) for e in entries)

    def _clean_folder(self, parts: Sequence[str]) -> None:
        """Make deletions durable, remove what killed writers left, and remove empty folders, but no container."""
        try:
            with self._folder(parts) as directory:
                for name in os.listdir(directory):  # noqa: PTH208
                    if _TEMPORARY.fullmatch(name):
                        _remove_leftover(name, directory)
                os.fsync(directory)
        except FileNotFoundError:
            return
        if len(parts) > 1:
            with self._folder(parts[:-1]) as parent:
                try:
                    os.rmdir(parts[-1], dir_fd=parent)
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                        raise
                    return
            self._clean_folder(parts[:-1])

    # --- files

    def _write(self, directory: int, key: str, name: str, data: bytes | memoryview, create: bool) -> Stat:
        temporary = f".{name}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            file = os.open(temporary, flags, 0o600, dir_fd=directory)
            with contextlib.closing(Output(file)) as output:
                fcntl.flock(file, fcntl.LOCK_EX)
                output.write(0, data)
                os.fsync(file)
                if create:
                    os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
                    os.unlink(temporary, dir_fd=directory)
                else:
                    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
                os.fsync(directory)
                return _make_stat(key, os.fstat(file))
        except BaseException:  # a signal may arrive as soon as the file exists
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise

    @contextlib.contextmanager
    def _translate_errors(self, key: str) -> Iterator[None]:
        where = self.url(key)
        try:
            yield
        except FileNotFoundError as error:
            raise StorageNotFound(f"{where} does not exist", remedy="Check the path of the store and the container.") from error
        except FileExistsError as error:
            raise StorageExists(f"{where} exists already") from error
        except OSError as error:
            raise _translate(error, where, self.top) from error


def _translate(error: OSError, where: str, top: Path) -> StorageError:
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(
            f"no space left for {where}: {reason}", remedy=f"Free space on the file system of {top}, or delete backups."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        user = name_user(os.geteuid())
        remedy = f"Let user {user} write to {top} and its containers, and check that the file system is mounted read-write."
        return StorageDenied(f"no permission for {where}: {reason}", remedy=remedy)
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return StorageDenied(
            f"a part of the path of {where} is a symbolic link or a file; links are not followed",
            remedy=f"To use another disk, mount it below {top} instead of linking to it.",
        )
    return StorageError(f"cannot use {where}: {reason}", remedy=f"Check the file system of {top} and the kernel's log.")


@contextlib.contextmanager
def _open_file(name: str, directory: int) -> Iterator[int]:
    # non-blocking: to open a named pipe would otherwise wait for a writer
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield file
    finally:
        os.close(file)


def _stat_file(file: int) -> os.stat_result:
    found = os.fstat(file)
    if stat.S_ISDIR(found.st_mode):
        raise FileNotFoundError(errno.ENOENT, "a folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ENOTDIR, "not a regular file")
    return found


def _still_exists(entry: os.DirEntry[str]) -> bool:
    """Whether it was not removed meanwhile. Also caches the entry's status, because the folder's descriptor is closed soon."""
    try:
        entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make_stat(key: str, found: os.stat_result) -> Stat:
    return Stat(key=key, size=found.st_size, modified=datetime.fromtimestamp(found.st_mtime, UTC))


def _remove_leftover(name: str, directory: int) -> None:
    """Remove a temporary file unless a running process writes to it."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), _open_file(name, directory) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory)


def _make_durably(folder: Path, mode: int) -> None:
    """Create one folder, durably."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode)
        folder.chmod(mode)  # whatever the umask
        parent = os.open(folder.parent, _FOLDER & ~os.O_NOFOLLOW)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
