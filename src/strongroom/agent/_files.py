"""Files and directories of the agent: written whole or not at all, and read without trust in who else may write there."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from strongroom.agent._accounts import Account

Model = TypeVar("Model", bound=BaseModel)
MAX_BYTES = 16 * 1024**2


def write_model(path: Path, model: BaseModel) -> None:
    """Replace ``path`` (0600) by the JSON of ``model``, durably and atomically."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")  # writers side by side must not share one
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(model.model_dump_json(indent=1))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_new(path: Path, text: str, account: Account) -> int:
    """Make a file (0600) of ``account``; its descriptor, open for appending, is returned."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    if os.geteuid() == 0:
        os.fchown(descriptor, account.uid, account.gid)
    os.write(descriptor, text.encode())
    return descriptor


def read_model(path: Path, kind: type[Model]) -> Model:
    """The model in ``path``. Raises OSError (also for a link or a special file), ValueError when it is not one."""
    return kind.model_validate_json(read_bytes(path))


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The content of a plain file of at most ``limit`` bytes. Raises OSError, ValueError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            raise ValueError(f"{path} is not a plain file of at most {limit} bytes")
        return file.read(limit)


def sync_directory(path: Path) -> None:
    """Make renames in ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path, mode: int = 0o700, owner: Account | None = None) -> None:
    """Make ``path`` if it is missing, and give it ``mode`` and ``owner`` in any case. A link in its place is an OSError."""
    above = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # it may be exchanged for a link meanwhile
    try:
        with suppress(FileExistsError):
            os.mkdir(path.name, 0o700, dir_fd=above)
        descriptor = os.open(path.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)
    try:
        if owner is not None and os.geteuid() == 0:
            os.fchown(descriptor, owner.uid, owner.gid)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


@contextmanager
def opened_of(directory: Path, account: Account) -> Iterator[int]:
    """A descriptor of a directory of ``account``, who may exchange any part of its path for a link at any time: what it leads to
    must be theirs, too. Raises OSError.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.geteuid() == 0 and os.fstat(descriptor).st_uid != account.uid:
            raise PermissionError(errno.EPERM, f"the directory does not belong to the OS user {account.name}", str(directory))
        yield descriptor
    finally:
        os.close(descriptor)


def remove_entries(directory: Path, account: Account, wanted: Callable[[str], bool]) -> None:
    """Remove those entries of a directory of ``account``, and all below them. Raises OSError."""
    with opened_of(directory, account) as descriptor:
        for name in filter(wanted, os.listdir(descriptor)):  # noqa: PTH208 - a descriptor
            if stat.S_ISDIR(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode):
                shutil.rmtree(name, dir_fd=descriptor)
            else:
                os.unlink(name, dir_fd=descriptor)


def remove_tree(path: Path) -> None:
    """Remove a directory and all in it, never what a link points to; nothing there is no error."""
    if path.is_symlink():
        path.unlink()
        return
    shutil.rmtree(path, ignore_errors=False, onerror=_gone)


def _gone(_function: object, _path: object, info: tuple[type[BaseException], BaseException, object]) -> None:
    if not isinstance(info[1], FileNotFoundError):
        raise info[1]


def directory_bytes(path: Path) -> int:
    """Bytes on disk below ``path``. What vanishes meanwhile is not counted."""
    total = 0
    for top, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(top, name)).st_blocks * 512  # noqa: PTH118 (a Path for each file is slow)
            except OSError:
                continue
    return total


def free_bytes(path: Path) -> int:
    """Free bytes of the file system that holds ``path``; 0 when it cannot be asked."""
    try:
        return shutil.disk_usage(path).free
    except OSError:
        return 0


def is_mount_point(path: Path) -> bool:
    """Something is mounted there, be it the same file system once more."""
    return str(path.resolve()) in _mounts()


def mounts_below(path: Path) -> list[str]:
    """Mount points in a directory."""
    top = str(path.resolve())
    return sorted(mount for mount in _mounts() if mount.startswith(f"{top}/"))


def _mounts() -> set[str]:
    places = (line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return {re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), place) for place in places}
