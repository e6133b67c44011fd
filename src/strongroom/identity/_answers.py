"""Answers that cost something to get: kept for a while, and asked for once when many want the same at the same time."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Answers(Generic[T]):
    """At most ``limit`` answers by key, the least used going first. Errors are not kept."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept: OrderedDict[bytes, tuple[T, float]] = OrderedDict()
        self._asked: dict[bytes, asyncio.Task[T]] = {}

    async def get(self, key: bytes, ask: Callable[[], Awaitable[tuple[T, float]]]) -> T:
        """The answer. ``ask`` gives it with the ``time.monotonic()`` until which it is good; what it raises, all who wait get."""
        kept = self._kept.get(key)
        if kept is not None and time.monotonic() < kept[1]:
            self._kept.move_to_end(key)
            return kept[0]
        task = self._asked.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(key, ask))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # all who waited may have gone
            self._asked[key] = task
        return await asyncio.shield(task)

    async def _ask(self, key: bytes, ask: Callable[[], Awaitable[tuple[T, float]]]) -> T:
        try:
            answer, until = await ask()
        finally:
            del self._asked[key]
        self._kept[key] = answer, until
        self._kept.move_to_end(key)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return answer
