"""Sizes of data directories, measured again when enough time has passed that this costs next to nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

SHARE = 0.001
"""The part of a core that this process spends on measuring all the directories that it is asked about."""
RESTED = 600.0
"""Seconds after which a directory that nobody asked about does not count any more."""


@dataclass(frozen=True)
class _Size:
    directory: tuple[int, int]
    size: int
    cost: float
    measured: float


class Sizes:
    """The last sizes by place. A directory that took the place of another, as after a restore, is measured at once."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic, cost: Callable[[], float] = time.thread_time) -> None:
        self._clock = clock
        self._cost = cost
        self._known: dict[Path, _Size] = {}
        self._mutex = Lock()

    def size(self, place: Path, measure: Callable[[Path], int]) -> int:
        """What ``measure`` says of the directory, or said a short time ago."""
        stat = place.stat()
        directory, now = (stat.st_dev, stat.st_ino), self._clock()
        with self._mutex:
            known = self._known.get(place)
            self._known = {path: size for path, size in self._known.items() if now - size.measured < RESTED}
            pause = sum(size.cost for size in self._known.values()) / SHARE
        if known is not None and known.directory == directory and now - known.measured < min(pause, RESTED / 2):
            return known.size
        before = self._cost()
        size = measure(place)
        with self._mutex:
            self._known[place] = _Size(directory, size, self._cost() - before, now)
        return size


SIZES = Sizes()
"""Those of this process."""
