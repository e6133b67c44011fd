"""Notifies waiting requests of changes in the catalog, so that they need not poll. Only this service writes to the catalog."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from threading import Lock

_Waiter = tuple[asyncio.AbstractEventLoop, asyncio.Event]


class Changes:
    """The waiting tasks. Thread-safe."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._waiters: set[_Waiter] = set()

    def notify(self) -> None:
        """Wake all waiting tasks after a commit."""
        with self._mutex:
            waiters = list(self._waiters)
        for loop, event in waiters:
            with contextlib.suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(event.set)

    @contextlib.contextmanager
    def watch(self) -> Iterator[asyncio.Event]:
        """An event that every commit sets. Clear it before each query."""
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._mutex:
            self._waiters.add(waiter)
        try:
            yield waiter[1]
        finally:
            with self._mutex:
                self._waiters.discard(waiter)
