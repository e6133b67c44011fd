"""How many segments are worked on side by side, within the memory that the settings allow."""

from __future__ import annotations

import ctypes
import os
from functools import cache

from strongroom.sections import Artifact

_STEP = 64 * 1024
_M_MMAP_THRESHOLD = -3
_LIBC = ctypes.CDLL(None)


@cache
def give_memory_back() -> None:
    """Have glibc return large buffers to the system when they are freed.

    Its default keeps those below 32 MiB in the heap of each thread, where sizes that differ a little leave holes: the process
    was seen to grow to twice of what it used.
    """
    if hasattr(_LIBC, "mallopt"):
        _LIBC.mallopt(_M_MMAP_THRESHOLD, 1024**2)


def plan_threads(settings: Artifact, segment_size: int, *, held: int) -> int:
    """Threads, each of which holds up to ``held`` segments: one more than cores as far as memory reaches, at least 1.

    While one waits for the store, each core has work. One segment more is held by whoever reads the stream or writes it out.
    """
    wanted = settings.threads or len(os.sched_getaffinity(0)) + 1
    return max(1, min(wanted, (settings.memory - segment_size) // (segment_size * held)))


def plan_segment(settings: Artifact, *, held: int) -> int:
    """The segment size that is asked for, or the largest of which memory holds enough for one thread."""
    most = settings.memory // (1 + held)
    return min(settings.segment_size, max(_STEP, most - most % _STEP))
