"""A cache for results that are expensive to get. Concurrent requests for the same key cause a single lookup."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Answers(Generic[T]):
    """At most ``limit`` results by key; the least recently used is dropped first. Errors are not cached."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._cached: OrderedDict[bytes, tuple[T, float]] = OrderedDict()
        self._running: dict[bytes, asyncio.Task[T]] = {}

    async def get(self, key: bytes, ask: Callable[[], Awaitable[tuple[T, float]]]) -> T:
        """The cached result, or that of ``ask``: the result and the ``time.monotonic()`` until which it is valid.

        An exception of ``ask`` is raised for every caller that waits for it.
        """
        kept = self._cached.get(key)
        if kept is not None and time.monotonic() < kept[1]:
            self._cached.move_to_end(key)
            return kept[0]
        task = self._running.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._look_up(key, ask))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # all callers that waited may be cancelled
            self._running[key] = task
        return await asyncio.shield(task)

    async def _look_up(self, key: bytes, ask: Callable[[], Awaitable[tuple[T, float]]]) -> T:
        try:
            answer, until = await ask()
        finally:
            del self._running[key]
        self._cached[key] = answer, until
        self._cached.move_to_end(key)
        if len(self._cached) > self._limit:
            self._cached.popitem(last=False)
        return answer
