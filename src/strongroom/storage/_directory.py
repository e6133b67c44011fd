"""A store in a directory: own code, because the durability contract is the whole point of it.

An object is one file. It is written under a hidden temporary name beside its final place, synced, and only then given its name;
after that the folder is synced. A writer holds a lock (flock) on its temporary file, so one that nobody holds is what a killed
writer left, and can be swept. Folders are walked without following symbolic links, because several OS users may write here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import re
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from strongroom.direct import Output
from strongroom.errors import StorageDenied, StorageError, StorageExists, StorageFull, StorageNotFound
from strongroom.storage._key import split, split_prefix
from strongroom.storage._protocol import Capabilities, Stat

_PRIVATE = 0o700
_TRAVERSABLE = 0o711
_SHARED = 0o3770
"""Set-group-id, so that the group stays; sticky, so that one user cannot remove what another wrote."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}", re.DOTALL)
"""Names under which objects are written. Other hidden files are not ours."""
_ATTEMPTS = 10
"""A folder may vanish between its making and its use, when somebody removes the last object in it just then."""


class DirectoryStore:
    """Objects as files below ``top``, which is made on the first use of the store.

    With ``gid`` the top and the containers belong to that group and may be written by it; what is below a container belongs to
    the OS user that writes it, alone.
    """

    capabilities = Capabilities(server_checksum=False, conditional_create=True)

    def __init__(self, top: Path, *, gid: int | None = None) -> None:
        self.top = top.absolute()
        self._gid = gid
        with self._errors(""):
            self._make_top()

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
        *folder, name = split(key)
        with self._errors(key):
            for _ in range(_ATTEMPTS):
                with contextlib.suppress(FileNotFoundError), self._folder(folder, make=True) as directory:
                    return self._write(directory, key, name, data, create)
        raise StorageError(f"cannot store {self.url(key)}: its folder is not there", remedy=f"See that {self.top} is mounted.")

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        *folder, name = split(key)
        with self._errors(key), self._folder(folder) as directory, _opened(name, directory) as file:
            size = _regular(file).st_size
            end = size if length is None else min(size, start + length)
            pieces = []
            while start < end and (piece := os.pread(file, end - start, start)):
                pieces.append(piece)
                start += len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def head(self, key: str) -> Stat:
        *folder, name = split(key)
        with self._errors(key), self._folder(folder) as directory, _opened(name, directory) as file:
            return _stat(key, _regular(file))

    def list(self, prefix: str) -> Iterator[Stat]:
        with self._errors(prefix):
            yield from self._walk(split_prefix(prefix))

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Also names a folder that holds nothing but what a killed writer left, so that it can be swept by ``delete``."""
        parts = split_prefix(prefix)
        with self._errors(prefix):
            for entry in self._entries(parts):
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".") and self._holds([*parts, entry.name]):
                    yield entry.name

    def delete(self, keys: Iterable[str]) -> None:
        touched: set[tuple[str, ...]] = set()
        for key in keys:
            *folder, name = split(key)
            touched.add(tuple(folder))
            with self._errors(key), contextlib.suppress(FileNotFoundError, IsADirectoryError), self._folder(folder) as directory:
                os.unlink(name, dir_fd=directory)
        for parts in touched:
            with self._errors("/".join(parts)):
                self._tidy(parts)

    def url(self, key: str) -> str:
        return (self.top / key).as_uri()

    def close(self) -> None:
        """Nothing is held open."""

    # --- folders

    def _make_top(self) -> None:
        if not self.top.exists():
            for folder in [f for f in reversed(self.top.parents) if not f.exists()]:
                _make(folder, _TRAVERSABLE)
            _make(self.top, _PRIVATE)
            self._share(self.top)
        elif self._gid is not None and os.geteuid() == 0 and self.top.stat().st_gid != self._gid and self._is_empty():
            self._share(self.top)  # a disk or a folder that was prepared for us

    def _is_empty(self) -> bool:
        return not {entry.name for entry in self.top.iterdir()} - {"lost+found"}

    def _share(self, folder: Path | int) -> None:
        if self._gid is not None:
            if os.geteuid() == 0:
                os.chown(folder, -1, self._gid)
            os.chmod(folder, _SHARED)  # noqa: PTH101  (a descriptor too)

    @contextlib.contextmanager
    def _folder(self, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """A descriptor of the folder. Each part is opened without following a symbolic link."""
        current = os.open(self.top, _FOLDER & ~os.O_NOFOLLOW)
        try:
            for depth, part in enumerate(parts):
                try:
                    below = os.open(part, _FOLDER, dir_fd=current)
                except FileNotFoundError:
                    if not make:
                        raise
                    below = self._make_folder(part, current, container=depth == 0)
                os.close(current)
                current = below
            yield current
        finally:
            os.close(current)

    def _make_folder(self, name: str, parent: int, *, container: bool) -> int:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _PRIVATE, dir_fd=parent)
            made = os.open(name, _FOLDER, dir_fd=parent)
            if container:
                self._share(made)
            os.fsync(parent)
            return made
        return os.open(name, _FOLDER, dir_fd=parent)

    def _entries(self, parts: Sequence[str]) -> Sequence[os.DirEntry[str]]:
        """What is in the folder, in the order of the keys; nothing when it is not there."""
        try:
            with self._folder(parts) as directory, os.scandir(directory) as found:
                entries = [entry for entry in found if _is_there(entry)]
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
                yield _stat("/".join(here), entry.stat(follow_symlinks=False))

    def _holds(self, parts: Sequence[str]) -> bool:
        """Whether any file is below, the remains of a killed writer included."""
        return any(not e.is_dir(follow_symlinks=False) or self._holds([*parts, e.name]) for e in self._entries(parts))

    def _tidy(self, parts: Sequence[str]) -> None:
        """Make deletions durable, sweep what killed writers left, and remove folders that are empty now; never a container."""
        try:
            with self._folder(parts) as directory:
                for name in os.listdir(directory):  # noqa: PTH208
                    if _TEMPORARY.fullmatch(name):
                        _sweep(name, directory)
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
            self._tidy(parts[:-1])

    # --- files

    def _write(self, directory: int, key: str, name: str, data: bytes | memoryview, create: bool) -> Stat:
        temporary = f".{name}.{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(temporary, flags, 0o600, dir_fd=directory)
        output = Output(file)
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
            output.write(0, data)
            os.fsync(file)
            if create:
                os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
                os.unlink(temporary, dir_fd=directory)
            else:
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            os.fsync(directory)
            return _stat(key, os.fstat(file))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=directory)
            raise
        finally:
            output.close()

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
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
        remedy = f"Let user {_me()} write in {top} and its containers, and see that the file system is mounted read-write."
        return StorageDenied(f"no permission for {where}: {reason}", remedy=remedy)
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return StorageDenied(
            f"{where} is below a symbolic link or a file, which is not followed",
            remedy=f"Mount another disk below {top} instead of linking to it.",
        )
    return StorageError(f"cannot use {where}: {reason}", remedy=f"Check the file system of {top} and the kernel's log.")


def _me() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


@contextlib.contextmanager
def _opened(name: str, directory: int) -> Iterator[int]:
    # non-blocking, for a named pipe in place of an object would hang us
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        yield file
    finally:
        os.close(file)


def _regular(file: int) -> os.stat_result:
    found = os.fstat(file)
    if stat.S_ISDIR(found.st_mode):
        raise FileNotFoundError(errno.ENOENT, "a folder")
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.ENOTDIR, "not a regular file")
    return found


def _is_there(entry: os.DirEntry[str]) -> bool:
    """It was not removed meanwhile. The entry keeps its status: the descriptor of its folder is closed when it is asked for."""
    try:
        entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _stat(key: str, found: os.stat_result) -> Stat:
    return Stat(key=key, size=found.st_size, modified=datetime.fromtimestamp(found.st_mtime, UTC))


def _sweep(name: str, directory: int) -> None:
    """Remove a temporary file that no live process is writing."""
    with contextlib.suppress(FileNotFoundError, BlockingIOError), _opened(name, directory) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(name, dir_fd=directory)


def _make(folder: Path, mode: int) -> None:
    """Make one folder, durably."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode)
        folder.chmod(mode)  # whatever the umask
        parent = os.open(folder.parent, _FOLDER & ~os.O_NOFOLLOW)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
