"""Notes which hosts answer, and retries the steps of a job whose host does not."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from strongroom.errors import AgentBroken, HostSilent, HostTimeout

LOOK = 1.0
"""Seconds between two checks whether the host of a running step is lost."""
RETRY_PAUSE = 2.0
"""Seconds until the retry of a step whose host did not answer."""
PROGRESS = 10.0
"""An attempt that lasts longer than these seconds has made progress: no connection attempt takes that long."""
MOST_BROKEN = 5
"""Maximum number of consecutive unexpected responses of an agent to the same request."""
MOST_CUTS = 10
"""Maximum number of cut connections during one operation, each after some progress."""


class Presence:
    """When each host answered last, except those with an embedded agent, which is always reachable. Thread-safe."""

    def __init__(self, lost_after: float) -> None:
        """``lost_after``: seconds without an answer after which the jobs of a host fail."""
        self.lost_after = lost_after
        self._answered: dict[str, float] = {}
        self._missed: dict[str, int] = {}
        self._causes: dict[str, HostSilent] = {}
        self._settled: set[str] = set()

    def expect(self, host: str) -> None:
        """Add a host, which should answer from now on."""
        self._answered.setdefault(host, time.monotonic())

    def forget(self, host: str) -> None:
        """Remove a host."""
        self._answered.pop(host, None)
        self._missed.pop(host, None)
        self._causes.pop(host, None)
        self._settled.discard(host)

    def heard(self, host: str) -> None:
        """Note that the host answered."""
        if host in self._answered:
            self._answered[host] = time.monotonic()
            self._missed[host] = 0
            self._causes.pop(host, None)

    def missed(self, host: str, cause: HostSilent | None = None) -> None:
        """Note that the host did not answer correctly."""
        self._missed[host] = self._missed.get(host, 0) + 1
        self._settled.discard(host)
        if cause is not None and host in self._answered:
            self._causes[host] = cause

    def silence(self, host: str | None) -> float:
        """Seconds since the last answer of the host."""
        answered = self._answered.get(host or "")
        return 0.0 if answered is None else time.monotonic() - answered

    def answers(self, host: str) -> bool:
        """Whether the host answered the last query; False for a host with an embedded agent."""
        return host in self._answered and host not in self._causes

    def cause(self, host: str) -> HostSilent | None:
        """Why the host did not answer the last query; None if it answered."""
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
        """Raise HostSilent, or the subclass of the cause, if the host is lost."""
        silence = self.silence(host)
        # At least two failed queries: after a suspension of this process, the time alone proves nothing.
        if silence > self.lost_after and self._missed.get(host or "", 0) > 1:
            cause = self._causes.get(host or "")
            why = f": {cause.message}" if cause else ""
            remedy = (
                cause.remedy if cause else ""
            ) or "Check that the host is up, that `strongroom agent` is running there, and that the network works."
            raise (type(cause) if cause else HostSilent)(
                f"host {host} has not answered for {silence:.0f} seconds, so its job failed{why}",
                remedy=f"{remedy} If the job still runs there, it is cancelled when the host answers again; then try again.",
            )


async def retry_while_silent(
    presence: Presence,
    host: str | None,
    action: Callable[[], Awaitable[None]],
    progress: Callable[[], Awaitable[object]] | None = None,
) -> None:
    """Do ``action``, which is idempotent, and repeat it while a host does not answer. Raises HostSilent when the host is lost.

    A host is lost if it does not answer any request for ``lost_after`` seconds, or if the action fails for that long without
    progress: an agent that restarts several times during a long backup is not lost. After several consecutive unexpected
    responses to the same request, the action is not repeated either.

    An action without a ``host`` contacts several hosts, and only its own failures show that one of them is lost. An attempt may
    wait for a connection to each of them, so only an attempt that takes longer than that has made progress.

    ``progress`` returns a value that changes while the action advances. If it does not change, the action is not repeated after a
    number of lost connections: it may crash the agent.
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
