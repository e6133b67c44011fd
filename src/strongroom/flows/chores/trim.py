"""Returns freed memory to the system: glibc keeps it if it lies between pieces that are in use."""

from __future__ import annotations

import ctypes
import gc

from strongroom.flows.chores.chore import Chore
from strongroom.flows.site import Site

MINUTE = 60.0
_LIBC = ctypes.CDLL(None)


def _trim(site: Site) -> None:
    site.catalog.release_memory()
    gc.collect()  # does not scan what the service froze when it began to serve
    if hasattr(_LIBC, "malloc_trim"):
        _LIBC.malloc_trim(0)


TRIM = Chore(name="trim", interval=MINUTE, run=_trim)
