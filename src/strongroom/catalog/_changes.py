"""Wakes who waits for a change of the catalog: one service writes to it, so that nobody has to look again and again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from threading import Lock

_Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class Changes:
    """Told of every commit; safe with threads."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._waiters: set[_Waiter] = set()

    def tell(self) -> None:
        """Something was committed."""
        with self._mutex:
            waiters = list(self._waiters)
        for loop, event in waiters:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(event.set)

    @contextlib.contextmanager
    def watch(self) -> Iterator[asyncio.Event]:
        """An event that is set by every commit within; whoever waits clears it before looking."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._mutex:
            self._waiters.add(waiter)
        try:
            yield waiter[1]
        finally:
            with self._mutex:
                self._waiters.discard(waiter)
