"""Runs the chores. Each sleeps until its next run is due or it is woken; nothing is polled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import structlog
from sqlalchemy.exc import OperationalError

from strongroom.flows.chores.chore import Chore
from strongroom.flows.site import Site

log = structlog.get_logger()


class ChoreRunner:
    """Runs each chore in a task of the event loop, with the work in a thread. The runs of one chore never overlap."""

    def __init__(self, site: Site, chores: Iterable[Chore]) -> None:
        self._site = site
        self._chores = {chore.name: chore for chore in chores}
        self._wakes: dict[str, asyncio.Event] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Run every chore now, and then repeat it. Call this on the event loop, after the engine has started."""
        self._loop = asyncio.get_running_loop()
        for chore in self._chores.values():
            self._wakes[chore.name] = asyncio.Event()
            self._tasks.append(asyncio.create_task(self._repeat(chore), name=f"chore {chore.name}"))

    def wake(self, name: str) -> None:
        """Run this chore as soon as possible: its next run is due earlier than expected. From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the service stops
                self._loop.call_soon_threadsafe(self._wakes[name].set)

    async def stop(self) -> None:
        """Start no further run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _repeat(self, chore: Chore) -> None:
        wake = self._wakes[chore.name]
        while True:
            wake.clear()
            delay = await asyncio.to_thread(self._run, chore)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), delay)

    def _run(self, chore: Chore) -> float:
        """Run the chore; returns the seconds until its next run. An error is logged and ends only this run."""
        try:
            delay = chore.run(self._site)
        except OperationalError as error:
            log.warning("the database does not answer", chore=chore.name, reason=str(error.orig))
        except Exception:
            log.exception("a chore failed", chore=chore.name)
        else:
            return chore.interval if delay is None else max(delay, 0.0)
        return chore.interval if chore.retry is None else chore.retry
