"""Limits how often passwords can be tried."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Hashable

from strongroom.errors import TooManyRequests

KEYS = 10_000
"""Keys with failures; beyond that, the oldest are dropped. An attacker needs a whole password check to add one."""


class Throttle:
    """Allows ``limit`` failures of a key within ``window`` seconds.

    An attempt counts as a failure as soon as it begins, so that concurrent attempts are limited, too, until it succeeds.
    """

    def __init__(self, limit: int, window: float) -> None:
        self._limit = limit
        self._window = window
        self._failures: dict[Hashable, deque[float]] = {}

    def check(self, key: Hashable) -> None:
        """Raise TooManyRequests if the key has no attempt left."""
        failures = self._failures.get(key)
        if failures is None:
            return
        self._drop_old(key, failures)
        if len(failures) >= self._limit:
            wait = math.ceil(failures[-self._limit] + self._window - time.monotonic())
            raise TooManyRequests(
                "too many wrong passwords",
                remedy=f"Try again in {wait} seconds with the right password.",
                retry_after=max(1, wait),
            )

    def begin(self, key: Hashable) -> float:
        """Count an attempt. Pass the result to ``forgive`` if it succeeds."""
        now = time.monotonic()
        if key not in self._failures and len(self._failures) >= KEYS:
            del self._failures[next(iter(self._failures))]
        self._failures.setdefault(key, deque()).append(now)
        return now

    def forgive(self, key: Hashable, attempt: float) -> None:
        """Remove an attempt that succeeded."""
        failures = self._failures.get(key)
        if failures is not None and attempt in failures:
            failures.remove(attempt)
            self._drop_old(key, failures)

    def _drop_old(self, key: Hashable, failures: deque[float]) -> None:
        while failures and failures[0] + self._window <= time.monotonic():
            failures.popleft()
        if not failures:
            del self._failures[key]
