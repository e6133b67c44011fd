"""Reused memory for segments: the kernel zeroes new memory, which takes longer than to decompress into it."""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from pickle import PickleBuffer


class Buffers:
    """Lends memory to any thread. It is returned automatically when it is no longer referenced."""

    def __init__(self, size: int) -> None:
        """``size``: bytes of the largest loan."""
        self._kind = ctypes.c_char * size
        self._free: deque[bytearray] = deque(maxlen=1)  # soon lent again; more would waste memory

    def lend(self, size: int) -> memoryview:
        """Return so many writable bytes with arbitrary content."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = bytearray(ctypes.sizeof(self._kind))
        loan = self._kind.from_buffer(memory)  # the views keep it, and not the memory, alive: its end is the end of the last one
        weakref.finalize(loan, self._free.append, memory).atexit = False
        return PickleBuffer(loan).raw()[:size]
