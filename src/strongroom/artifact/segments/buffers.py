"""Memory for segments, used again and again: the kernel zeroes what is fresh, which takes longer than to decompress into it."""

from __future__ import annotations

import ctypes
import weakref
from collections import deque
from pickle import PickleBuffer


class Buffers:
    """Lends memory, from any thread. It comes back by itself when nobody looks at it any more."""

    def __init__(self, size: int) -> None:
        """``size`` is that of the largest loan, in bytes."""
        self._kind = ctypes.c_char * size
        self._free: deque[bytearray] = deque(maxlen=1)  # soon to be lent again; more would only be held

    def lend(self, size: int) -> memoryview:
        """So many writable bytes, with whatever is in them."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = bytearray(ctypes.sizeof(self._kind))
        loan = self._kind.from_buffer(memory)  # the views keep it, and not the memory, alive: its end is the end of the last one
        weakref.finalize(loan, self._free.append, memory).atexit = False
        return PickleBuffer(loan).raw()[:size]
