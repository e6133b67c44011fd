"""Where the stream of a backup comes from: a pipe that a tool fills, or something in this process that makes it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
from collections.abc import Callable
from typing import Protocol

_PIPE = 1024**2


class Source(Protocol):
    """A stream that is produced while it is read."""

    def readinto(self, view: memoryview) -> int:
        """Write the next available bytes to the beginning of ``view`` and return their number; 0 only at the end."""


class Pipe:
    """A pipe, read until its other end is closed. ``wake`` is a descriptor that can be read when ``check`` has to be called."""

    def __init__(self, fd: int, wake: int, check: Callable[[], None]) -> None:
        with contextlib.suppress(OSError):  # a file, or not allowed: the default size will do
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE)
        self._fd = fd
        self._check = check
        self._poll = select.poll()
        for each in (fd, wake):
            self._poll.register(each, select.POLLIN)

    def readinto(self, view: memoryview) -> int:
        """See Source. Raises what ``check`` does."""
        self._poll.poll()
        self._check()
        return os.readv(self._fd, [view])
