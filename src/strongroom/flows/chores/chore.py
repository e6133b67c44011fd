"""The definition of a periodic chore."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from strongroom.flows.site import Site

DAY = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Chore:
    """Work that the service repeats without a request."""

    name: str
    interval: float
    """Seconds between two runs. The first run is at the start of the service."""
    run: Callable[[Site], float | None]
    """Does the work, in a thread. May return the seconds until its next run, if that differs from ``interval``."""
    retry: float | None = None
    """Seconds until the next run after an error; default: ``interval``."""
