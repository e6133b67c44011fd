"""Memory of a private server that applies a log."""

from __future__ import annotations

import os

_MOST_MB = 1024
_LEAST_MB = 64


def choose_pool_mb() -> int:
    """Size of its buffer pool: a quarter of the memory of the host, within limits."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    return max(_LEAST_MB, min(total // 4, _MOST_MB))
