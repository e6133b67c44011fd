"""How many segments are worked on side by side, within the memory that the settings allow."""

from __future__ import annotations

import os

from strongroom.settings import Artifact

_STEP = 64 * 1024


def _held(encrypted: bool) -> int:
    """Segments that one thread holds at the worst, when nothing can be compressed: raw, compressed, sealed."""
    return 3 if encrypted else 2


def plan_threads(settings: Artifact, segment_size: int, *, encrypted: bool) -> int:
    """Threads for segments of ``segment_size`` bytes: one a core as far as memory reaches, at least 1.

    One segment more is held by whoever reads the stream or writes it out.
    """
    wanted = settings.threads or len(os.sched_getaffinity(0))
    return max(1, min(wanted, (settings.memory - segment_size) // (segment_size * _held(encrypted))))


def plan_segment(settings: Artifact, *, encrypted: bool) -> int:
    """The segment size that is asked for, or the largest of which memory holds enough for one thread."""
    most = settings.memory // (1 + _held(encrypted))
    return min(settings.segment_size, max(_STEP, most - most % _STEP))
