"""Which hosts answer, and what becomes of the steps of a job whose host does not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from strongroom.errors import HostSilent

LOOK = 1.0
"""Seconds between two looks whether the host of a running step is lost."""
AGAIN = 2.0
"""Seconds after which a step whose host did not answer is tried again."""


class Presence:
    """When each host that may be cut off answered last. An embedded agent cannot be, and is not in here. Safe with threads."""

    def __init__(self, lost_after: float) -> None:
        """``lost_after``: seconds of silence after which the jobs of a host fail."""
        self.lost_after = lost_after
        self._answered: dict[str, float] = {}
        self._missed: dict[str, int] = {}

    def expect(self, host: str) -> None:
        """From now on the host should answer."""
        self._answered.setdefault(host, time.monotonic())

    def forget(self, host: str) -> None:
        """It need not answer any more."""
        self._answered.pop(host, None)
        self._missed.pop(host, None)

    def heard(self, host: str) -> None:
        """It has answered now."""
        if host in self._answered:
            self._answered[host] = time.monotonic()
            self._missed[host] = 0

    def missed(self, host: str) -> None:
        """It was asked and has not answered."""
        self._missed[host] = self._missed.get(host, 0) + 1

    def silence(self, host: str | None) -> float:
        """Seconds since it has answered."""
        answered = self._answered.get(host or "")
        return 0.0 if answered is None else time.monotonic() - answered

    def require(self, host: str | None) -> None:
        """Raise HostSilent when the host is lost."""
        silence = self.silence(host)
        # Asked twice at least: that we have slept for long ourselves says nothing about the host.
        if silence > self.lost_after and self._missed.get(host or "", 0) > 1:
            raise HostSilent(
                f"host {host} has not answered for {silence:.0f} seconds; its job was given up",
                remedy="Is the machine up, does `strongroom agent` run there, does the network work? "
                "What may have gone on there is cancelled when the host is back; then try again.",
            )


async def attend(presence: Presence, host: str | None, action: Callable[[], Awaitable[None]]) -> None:
    """Do ``action``, which is idempotent, and again while a host does not answer. Raises HostSilent when it is lost.

    A host is lost when nobody hears of it for ``lost_after``, or when the action fails for that long without a longer success
    in between: an agent that restarts twice within a long backup is not lost.
    """
    failing_since: float | None = None
    while True:
        began = time.monotonic()
        work = asyncio.ensure_future(action())
        try:
            while not (await asyncio.wait({work}, timeout=LOOK))[0]:
                presence.require(host)
            return work.result()
        except HostSilent:
            presence.require(host)
            if failing_since is None or time.monotonic() - began > presence.lost_after:
                failing_since = time.monotonic()
            elif time.monotonic() - failing_since > presence.lost_after:
                raise
        finally:
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await work
        await asyncio.sleep(AGAIN)
