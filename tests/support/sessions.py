"""Reading what a backup session gives."""

from __future__ import annotations

import os
from collections.abc import Iterator

from strongroom.artifact import Source


def pieces(stream: int | Source, size: int = 1 << 20) -> Iterator[memoryview]:
    """The stream, at most ``size`` bytes at once. Each piece is there until the next is asked for."""
    view = memoryview(bytearray(size))
    while got := os.readv(stream, [view]) if isinstance(stream, int) else stream.readinto(view):
        yield view[:got]
