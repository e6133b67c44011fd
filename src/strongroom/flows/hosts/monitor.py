"""Look after hosts and servers: mirror what agents say into the catalog, notice silence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from strongroom.agent.models import HostView, ServerView
from strongroom.catalog import Host, Instance, now
from strongroom.errors import AgentBroken, HostSilent, HostTimeout, StrongroomError
from strongroom.flows import outcomes
from strongroom.flows.clusters.fence import fence
from strongroom.flows.engine import Engine
from strongroom.flows.hosts.reconcile import call_back
from strongroom.flows.site import Site

log = structlog.get_logger()

PACE = 1.0
"""Seconds between two looks at an agent whose servers are not all as they should be, or that does not answer."""
CALM = 15.0
"""Seconds between two looks at the embedded agent, which tells by itself when something changes."""
CALM_SERVERS = 30.0
"""Seconds between two looks at its servers, of which nothing but sizes can have changed."""
REMOTE_PACE = 0.2
"""Times ``hosts.silent_after``: between two looks at another agent, on which all is well."""
HOST_PACE = 0.4
"""Times ``hosts.silent_after``: between two looks at the facts of a host, when it is also noted that it was heard of."""
ANSWER = 10.0
"""Seconds that an answer to a look may take."""
FIRST_LOOK = 2.0
"""Seconds that other machines may take to answer for the first time before the service serves without them."""
ALONE = 5.0
"""Seconds between two looks whether this is still the one service on its database."""
LEAVING = timedelta(seconds=30)
"""Time after its deletion in which an instance may still be among the servers of its host."""


class Monitor:
    """Runs as a task of the service's event loop. A host that hangs does not keep the others from being seen."""

    def __init__(self, site: Site, engine: Engine) -> None:
        self._site = site
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._returns: dict[str, asyncio.Task[None]] = {}
        self._fences: dict[str, asyncio.Task[None]] = {}
        self._next_host: dict[str, float] = {}
        self._answers: dict[str, bool] = {}
        self._next_look: dict[str, float] = {}
        self._next_servers: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._changes = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def look(self) -> None:
        """Look at every host once: after it the catalog knows the embedded one, and of the others those that answer soon."""
        self._begin_looks()
        ours = [look for host, look in self._looks.items() if self._site.agents.embedded(host)]
        others = [look for host, look in self._looks.items() if not self._site.agents.embedded(host)]
        await asyncio.gather(*ours)
        if others:
            await asyncio.wait(others, timeout=FIRST_LOOK)

    def start(self) -> None:
        """Go on looking in the background. The engine must run."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())
        self._site.agents.ask = self.ask_hosts

    def ask_hosts(self) -> None:
        """Ask all hosts for their facts, and wait for those that answer soon. From another thread than that of the event loop."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._ask_all(), self._loop).result()

    async def _ask_all(self) -> None:
        self._next_host.clear()
        looks = [asyncio.create_task(self._look(host)) for host in self._site.agents.names]
        if looks:
            _, late = await asyncio.wait(looks, timeout=FIRST_LOOK)
            for look in late:
                look.cancel()

    def wake(self) -> None:
        """Something has changed on the host of the embedded agent. From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed: nobody looks any more
                self._loop.call_soon_threadsafe(self._hurry)

    def _hurry(self) -> None:
        self._changes += 1
        for host in self._site.agents.names:
            if self._site.agents.embedded(host):
                self._next_look[host] = self._next_servers[host] = 0.0
        self._wake.set()

    async def stop(self) -> None:
        """End all tasks."""
        tasks = [*self._looks.values(), *self._returns.values(), *self._fences.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        next_alone = time.monotonic()
        while True:
            try:
                self._begin_looks()
                if time.monotonic() >= next_alone:
                    next_alone = time.monotonic() + ALONE
                    if not await asyncio.to_thread(self._engine.stay_alone):
                        log.critical("another strongroom serve has taken over the database; this one ends")
                        os.kill(os.getpid(), signal.SIGTERM)
            except OperationalError as error:
                log.warning("the database does not answer", reason=str(error.orig))
            except Exception:
                log.exception("monitor stumbled")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause())
            self._wake.clear()

    def _pause(self) -> float:
        """Seconds until something is due; nothing costs little to find."""
        due = [self._next_look.get(host, 0.0) for host in self._site.agents.names if not self._is_looking(host)]
        return max(0.02, min(PACE, min(due, default=inf) - time.monotonic()))

    def _is_looking(self, host: str) -> bool:
        return host in self._looks and not self._looks[host].done()

    def _begin_looks(self) -> None:
        for host in self._site.agents.names:
            if not self._is_looking(host) and time.monotonic() >= self._next_look.get(host, 0.0):
                self._next_look[host] = time.monotonic() + PACE
                self._looks[host] = asyncio.create_task(self._look(host))

    def _note_pace(self, host: str, servers: Sequence[ServerView] | None, changes: int) -> None:
        """Look again soon where something is under way. Without ``servers``, nothing was when they were last looked at."""
        if self._changes != changes or not all(_is_settled(view) for view in servers or ()):
            return
        embedded = self._site.agents.embedded(host)
        if embedded and servers is not None:
            self._next_servers[host] = time.monotonic() + CALM_SERVERS
        silent_after = self._site.settings.hosts.silent_after
        calm = min(CALM, HOST_PACE * silent_after) if embedded else min(5.0, REMOTE_PACE * silent_after)
        self._next_look[host] = max(self._next_look.get(host, 0.0), time.monotonic() + calm)

    async def _look(self, host: str) -> None:
        try:
            answers = await self._ask(host)
            if answers != self._answers.get(host, True):
                self._note_change(host, answers)
            if answers and not self._answers.get(host, False):
                self._returns[host] = asyncio.create_task(call_back(self._site, host))
            self._answers[host] = answers
        except OperationalError as error:
            log.warning("the database does not answer", reason=str(error.orig))
        except Exception:
            log.exception("monitor stumbled", host=host)
        finally:
            self._wake.set()

    def _note_change(self, host: str, answers: bool) -> None:
        cause = self._site.agents.presence.cause(host)
        if answers:
            log.info("host is back", host=host)
        elif cause is not None:
            log.warning("host does not answer", host=host, error=cause.code, reason=cause.message, remedy=cause.remedy)
        else:
            log.warning("host does not answer", host=host)

    async def _ask(self, host: str) -> bool:
        """Whether the agent answers; the catalog knows what it says."""
        asked, changes = now(), self._changes
        servers: list[ServerView] | None = None
        facts: HostView | None = None
        try:
            agent = self._site.agents.client(host)
            async with asyncio.timeout(None if self._site.agents.embedded(host) else ANSWER):
                if time.monotonic() >= self._next_servers.get(host, 0):
                    servers = await agent.servers()
                if time.monotonic() >= self._next_host.get(host, 0):
                    facts = await agent.host()
        except (StrongroomError, TimeoutError) as error:
            self._next_host.pop(host, None)
            self._site.agents.presence.missed(host, _cause(host, error))
            return False
        if facts is not None:
            self._next_host[host] = time.monotonic() + HOST_PACE * self._site.settings.hosts.silent_after
        self._site.agents.presence.heard(host)
        self._note_pace(host, servers, changes)
        if servers is not None:
            await asyncio.to_thread(self._write_servers, host, asked, servers)
            if host not in self._fences or self._fences[host].done():  # a node that hangs does not keep its host from being seen
                self._fences[host] = asyncio.create_task(fence(self._site, agent, servers))
        if facts is not None:
            await asyncio.to_thread(self._write_facts, host, facts)
        return True

    def _write_servers(self, host: str, asked: datetime, servers: list[ServerView]) -> None:
        """Mirror what changed. A step that has seen a server since we asked knows better."""
        views = {view.id: view.model_dump(mode="json") for view in servers}
        with self._site.catalog.read() as session:
            living = select(Instance).where(Instance.host == host, Instance.deleted.is_(None))
            known = list(session.scalars(living))
            changed = [i.id for i in known if not _later(i, asked) and _mirror(i, views.get(i.id))]
            strangers = [view for view in servers if view.id not in {i.id for i in known}]
            self._note_unknown(host, [view for view in strangers if not _is_leaving(session.get(Instance, view.id), host)])
        if not changed:
            return
        with self._site.catalog.write() as session:
            for instance_id in changed:
                instance = session.get(Instance, instance_id)
                if instance is not None and not _later(instance, asked):
                    _mirror(instance, views.get(instance_id))
                    instance.seen = now()

    def _note_unknown(self, host: str, strangers: list[ServerView]) -> None:
        before = {view.id for view in self._site.agents.unknown.get(host, [])}
        self._site.agents.unknown[host] = strangers
        for view in strangers:
            if view.id not in before:
                log.warning(
                    "no instance stands for a server of a host",
                    host=host,
                    server=view.id,
                    name=view.name,
                    remedy=f"strongroom host servers {host}",
                )

    def _write_facts(self, host: str, facts: HostView) -> None:
        """Keep what the host says of itself, under the name that we know it by. One that was removed meanwhile stays gone."""
        with self._site.catalog.write() as session:
            row = session.get(Host, host)
            if row is None:
                if not self._site.agents.embedded(host):
                    return
                row = Host(name=host)
                session.add(row)
            is_other = (row.view or {}).get("jobs_limit") != facts.jobs_limit
            row.view = facts.model_copy(update={"name": host}).model_dump(mode="json")
            row.seen = now()
            if is_other:
                self._site.agents.on_host(host, facts.jobs_limit)


def _cause(host: str, error: StrongroomError | TimeoutError) -> HostSilent:
    if isinstance(error, HostSilent):
        return error
    if isinstance(error, TimeoutError):
        return HostTimeout(
            f"the agent of host {host} did not answer within {ANSWER:.0f} seconds",
            remedy="Look at the load of the host and at its log.",
        )
    return AgentBroken(f"the agent of host {host} answered with an error: {error.message}", remedy=error.remedy)


def _is_settled(view: ServerView) -> bool:
    """It is as it should be, or somebody has to do something about it."""
    return view.job is None and (
        (view.state == "running" and view.healthy) or view.state in ("new", "failed", "standby") or view.wanted == "stopped"
    )


def _mirror(instance: Instance, view: dict[str, Any] | None) -> bool:
    """Whether what the agent says of the server, or that it says nothing, is news."""
    return outcomes.mirror(instance, view) if view is not None else outcomes.miss(instance)


def _is_leaving(instance: Instance | None, host: str) -> bool:
    """It was deleted on this host just now, while the agent was asked."""
    return instance is not None and instance.deleted is not None and instance.host == host and now() - instance.deleted < LEAVING


def _later(instance: Instance, asked: datetime) -> bool:
    return instance.seen is not None and instance.seen > asked
