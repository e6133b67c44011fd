"""Owner, mode, labels, access lists and flags of directories. New files in a directory inherit most of them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
_NO_COPY_ON_WRITE = 0x00800000
"""``chattr +C``: new files inherit it from an empty directory."""


def copy_attributes(source: Path, target: Path) -> None:
    """Copy extended attributes and flags to the empty directory ``target``, as far as its file system supports them."""
    with contextlib.suppress(OSError), _opened(source) as old, _opened(target) as new:
        for name in os.listxattr(old):
            with contextlib.suppress(OSError):
                os.setxattr(new, name, os.getxattr(old, name))
        with contextlib.suppress(OSError):
            flags, mine = _flags(old), _flags(new)
            if flags & _NO_COPY_ON_WRITE:
                fcntl.ioctl(new, _SET_FLAGS, struct.pack("l", mine | _NO_COPY_ON_WRITE))


def copy_access(source: Path, target: Path) -> None:
    """Copy owner, group and mode to the directory ``target``. Raises OSError."""
    with _opened(source) as old, _opened(target) as new:
        facts = os.fstat(old)
        if os.geteuid() == 0 or facts.st_gid != os.fstat(new).st_gid:
            os.fchown(new, facts.st_uid if os.geteuid() == 0 else -1, facts.st_gid)
        os.fchmod(new, facts.st_mode & 0o7777)


def _flags(descriptor: int) -> int:
    return int(struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))[0])


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
