"""Which hosts answer, and what becomes of the steps of a job whose host does not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from strongroom.errors import AgentBroken, HostSilent, HostTimeout

LOOK = 1.0
"""Seconds between two looks whether the host of a running step is lost."""
RETRY_PAUSE = 2.0
"""Seconds after which a step whose host did not answer is tried again."""
PROGRESS = 10.0
"""Seconds that an attempt lasts which has worked with its host for a while: nobody waits that long for a connection."""
MOST_BROKEN = 5
"""Unexpected answers of an agent to the same request, one after the other, after which it is not asked again."""
MOST_CUTS = 10
"""How often the connection may be cut during the same operation, each time after it had worked for a while."""


class Presence:
    """When each host that may be cut off answered last. An embedded agent cannot be, and is not in here. Safe with threads."""

    def __init__(self, lost_after: float) -> None:
        """``lost_after``: seconds without an answer after which the jobs of a host fail."""
        self.lost_after = lost_after
        self._answered: dict[str, float] = {}
        self._missed: dict[str, int] = {}
        self._causes: dict[str, HostSilent] = {}
        self._settled: set[str] = set()

    def expect(self, host: str) -> None:
        """From now on the host should answer."""
        self._answered.setdefault(host, time.monotonic())

    def forget(self, host: str) -> None:
        """It need not answer any more."""
        self._answered.pop(host, None)
        self._missed.pop(host, None)
        self._causes.pop(host, None)
        self._settled.discard(host)

    def heard(self, host: str) -> None:
        """It has answered now."""
        if host in self._answered:
            self._answered[host] = time.monotonic()
            self._missed[host] = 0
            self._causes.pop(host, None)

    def missed(self, host: str, cause: HostSilent | None = None) -> None:
        """It was asked and has not answered as it should."""
        self._missed[host] = self._missed.get(host, 0) + 1
        self._settled.discard(host)
        if cause is not None and host in self._answered:
            self._causes[host] = cause

    def silence(self, host: str | None) -> float:
        """Seconds since it has answered."""
        answered = self._answered.get(host or "")
        return 0.0 if answered is None else time.monotonic() - answered

    def answers(self, host: str) -> bool:
        """Whether a host that may be cut off answered when it was last asked."""
        return host in self._answered and host not in self._causes

    def cause(self, host: str) -> HostSilent | None:
        """Why it did not answer when it was asked last; none when it did."""
        return self._causes.get(host)

    def settle(self, host: str) -> None:
        """It has answered, and workers there that nobody waits for were stopped."""
        if host in self._answered:
            self._settled.add(host)

    def may_write(self, host: str) -> HostSilent | None:
        """Why a worker that nobody waits for may run on the host; none when there is none. At first it was not asked yet."""
        if host not in self._answered or host in self._settled:
            return None
        return self._causes.get(host) or HostSilent(f"host {host} was not asked yet which workers run there")

    def require(self, host: str | None) -> None:
        """Raise HostSilent, in the class of the cause, when the host is lost."""
        silence = self.silence(host)
        # Asked twice at least: that we have slept for long ourselves says nothing about the host.
        if silence > self.lost_after and self._missed.get(host or "", 0) > 1:
            cause = self._causes.get(host or "")
            why = f": {cause.message}" if cause else ""
            remedy = (
                cause.remedy if cause else ""
            ) or "Is the machine up, does `strongroom agent` run there, does the network work?"
            raise (type(cause) if cause else HostSilent)(
                f"host {host} has not answered for {silence:.0f} seconds, and its job was ended{why}",
                remedy=f"{remedy} What may have gone on there is cancelled when the host is back; then try again.",
            )


async def retry_while_silent(
    presence: Presence,
    host: str | None,
    action: Callable[[], Awaitable[None]],
    progress: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Do ``action``, which is idempotent, and again while a host does not answer. Raises HostSilent when it is lost.

    A host is lost when it does not answer anybody for ``lost_after``, or when the action alone fails for that long without having
    worked in between: an agent that restarts often within a long backup is not lost. An agent that answers the same request with
    an unexpected error again and again is not asked for ever.

    An action without a ``host`` speaks to several, and nothing else notices here that one of them is lost. One attempt may wait
    for a connection to each, so only an attempt that takes longer than that has worked.

    ``progress`` returns a value that changes while the action advances. If it stays the same, an action that is cut off again and
    again after a while is not repeated for ever: it may crash the agent.
    """
    least = PROGRESS if host is not None else max(PROGRESS, presence.lost_after)
    cuts, reached = 0, None if progress is None else await progress()
    failing_since: float | None = None
    broken = 0
    while True:
        began = time.monotonic()
        work = asyncio.ensure_future(action())
        try:
            while not (await asyncio.wait({work}, timeout=LOOK))[0]:
                presence.require(host)
            return work.result()
        except HostSilent as error:
            presence.require(host)
            worked = time.monotonic() - began > least and not isinstance(error, HostTimeout)
            if failing_since is None or worked:
                failing_since = time.monotonic()
            elif time.monotonic() - failing_since > presence.lost_after:
                raise
            broken = broken + 1 if isinstance(error, AgentBroken) and not worked else 0
            if broken == MOST_BROKEN:
                raise
            if worked and progress is not None:
                before, reached = reached, await progress()
                cuts = cuts + 1 if before == reached else 1
                if cuts == MOST_CUTS:
                    raise _give_up(error, host, cuts) from error
        finally:
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError, Exception):
                    await work
        await asyncio.sleep(RETRY_PAUSE)


def _give_up(error: HostSilent, host: str | None, cuts: int) -> HostSilent:
    agent = f"the agent of host {host}" if host else "an agent"
    return type(error)(
        f"the connection to {agent} was cut {cuts} times during the same operation, and it is not repeated: {error.message}",
        remedy="The operation may crash the agent: see the agent's log and the kernel log of the host.",
    )
