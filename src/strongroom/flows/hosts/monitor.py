"""Monitors hosts and servers: copies the views of agents into the catalog, and detects unreachable hosts."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Coroutine, Sequence
from datetime import datetime, timedelta
from math import inf
from typing import Any, TypeVar

import structlog
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from strongroom.agent.models import HostView, ServerView
from strongroom.catalog import Host, Instance, now
from strongroom.errors import AgentBroken, HostSilent, HostTimeout, StrongroomError
from strongroom.flows import outcomes
from strongroom.flows.clusters.fence import fence
from strongroom.flows.engine import Engine
from strongroom.flows.hosts.reconcile import call_back, forget_adopted
from strongroom.flows.site import LOG_ARCHIVES, Site
from strongroom.flows.steps import record_view

log = structlog.get_logger()

T = TypeVar("T")
PACE = 1.0
"""Seconds between two queries of an agent that does not answer or has a server that is not in its target state."""
CALM = 15.0
"""Seconds between two queries of the embedded agent, which reports changes itself."""
CALM_SERVERS = 30.0
"""Seconds between two queries of its servers, of which nothing but sizes can have changed."""
REMOTE_PACE = 0.2
"""Pause between two queries of another agent without problems, as a fraction of ``hosts.silent_after``."""
HOST_PACE = 0.4
"""Pause between two queries of the facts of a host, as a fraction of ``hosts.silent_after``."""
ANSWER = 10.0
"""Timeout of a query in seconds."""
FIRST_ANSWER = 2.0
"""Seconds for which the start of the service waits for the first response of other hosts."""
ALONE = 5.0
"""Seconds between two checks whether this is still the only service on its database."""
LEAVING = timedelta(seconds=30)
"""Time after the deletion of an instance in which its server may still be among the servers of its host."""


class Monitor:
    """Queries all agents, in tasks of the service's event loop. A hanging host does not delay the others."""

    def __init__(self, site: Site, engine: Engine) -> None:
        self._site = site
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._queries: dict[str, asyncio.Task[None]] = {}
        self._returns: dict[str, asyncio.Task[None]] = {}
        self._fences: dict[str, asyncio.Task[None]] = {}
        self._forgets: dict[str, asyncio.Task[None]] = {}
        self._next_host: dict[str, float] = {}
        self._answers: dict[str, bool] = {}
        self._next_query: dict[str, float] = {}
        self._next_servers: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._changes = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def query_hosts(self) -> None:
        """Query every host once, and wait for the embedded one and a short time for the others."""
        self._begin_queries()
        embedded = [query for host, query in self._queries.items() if self._site.agents.embedded(host)]
        others = [query for host, query in self._queries.items() if not self._site.agents.embedded(host)]
        await asyncio.gather(*embedded)
        if others:
            await asyncio.wait(others, timeout=FIRST_ANSWER)

    def start(self) -> None:
        """Start to query the hosts in the background. The engine must be running."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())
        self._site.agents.ask = self.ask_hosts
        self._site.agents.ask_server = self.ask_server
        self._site.agents.perform = self.perform

    def ask_hosts(self) -> None:
        """Query the facts of all hosts, and wait a short time for them. Not from the thread of the event loop."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._ask_all(), self._loop).result()

    def ask_server(self, host: str, server: str) -> None:
        """Query the state of a server now. If its host does not answer soon, the catalog keeps the last known state."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._ask_server(host, server), self._loop).result()

    def perform(self, work: Coroutine[Any, Any, T]) -> T:
        """Run calls of agents on the event loop, and return their result. Not from the thread of the event loop."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _ask_server(self, host: str, server: str) -> None:
        try:
            async with asyncio.timeout(ANSWER):
                view = await self._site.agents.client(host).server(server)
            await record_view(self._site, view)
        except (StrongroomError, TimeoutError) as error:
            log.info("cannot query the state of a server now", host=host, server=server, reason=str(error))

    async def _ask_all(self) -> None:
        self._next_host.clear()
        queries = [asyncio.create_task(self._query(host)) for host in self._site.agents.names]
        if queries:
            _, late = await asyncio.wait(queries, timeout=FIRST_ANSWER)
            for query in late:
                query.cancel()

    def wake(self) -> None:
        """Query the embedded agent now: something has changed there. From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the monitor has stopped
                self._loop.call_soon_threadsafe(self._hurry)

    def _hurry(self) -> None:
        self._changes += 1
        for host in self._site.agents.names:
            if self._site.agents.embedded(host):
                self._next_query[host] = self._next_servers[host] = 0.0
        self._wake.set()

    async def stop(self) -> None:
        """End all tasks."""
        groups = (self._queries, self._returns, self._fences, self._forgets)
        tasks = [*(task for group in groups for task in group.values()), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        next_alone = time.monotonic()
        while True:
            try:
                self._begin_queries()
                if time.monotonic() >= next_alone:
                    next_alone = time.monotonic() + ALONE
                    if not await asyncio.to_thread(self._engine.stay_alone):
                        log.critical("another strongroom serve uses the database; this one stops")
                        os.kill(os.getpid(), signal.SIGTERM)
            except OperationalError as error:
                log.warning("the database does not answer", reason=str(error.orig))
            except Exception:
                log.exception("unexpected error in the monitor")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause())
            self._wake.clear()

    def _pause(self) -> float:
        """Seconds until the next query is due."""
        due = [self._next_query.get(host, 0.0) for host in self._site.agents.names if not self._is_queried(host)]
        return max(0.02, min(PACE, min(due, default=inf) - time.monotonic()))

    def _is_queried(self, host: str) -> bool:
        return host in self._queries and not self._queries[host].done()

    def _begin_queries(self) -> None:
        for host in self._site.agents.names:
            if not self._is_queried(host) and time.monotonic() >= self._next_query.get(host, 0.0):
                self._next_query[host] = time.monotonic() + PACE
                self._queries[host] = asyncio.create_task(self._query(host))

    def _note_pace(self, host: str, servers: Sequence[ServerView] | None, changes: int) -> None:
        """Postpone the next query of the host if all its servers are settled, or were so and are not queried yet (None)."""
        if self._changes != changes or not all(_is_settled(view) for view in servers or ()):
            return
        embedded = self._site.agents.embedded(host)
        if embedded and servers is not None:
            self._next_servers[host] = time.monotonic() + CALM_SERVERS
        silent_after = self._site.settings.hosts.silent_after
        calm = min(CALM, HOST_PACE * silent_after) if embedded else min(5.0, REMOTE_PACE * silent_after)
        self._next_query[host] = max(self._next_query.get(host, 0.0), time.monotonic() + calm)

    async def _query(self, host: str) -> None:
        try:
            answers = await self._ask(host)
            if answers != self._answers.get(host, True):
                self._note_change(host, answers)
            if answers and not self._answers.get(host, False):
                self._site.alarm.wake(LOG_ARCHIVES)  # its agent may have forgotten the options of duties
            if answers and (not self._answers.get(host, False) or self._is_unsettled(host)):
                self._returns[host] = asyncio.create_task(call_back(self._site, host))
            self._answers[host] = answers
        except OperationalError as error:
            log.warning("the database does not answer", reason=str(error.orig))
        except Exception:
            log.exception("unexpected error in the monitor", host=host)
        finally:
            self._wake.set()

    def _is_unsettled(self, host: str) -> bool:
        """Whether workers there may run that nobody waits for, and nothing is being done about them."""
        done = host not in self._returns or self._returns[host].done()
        return done and self._site.agents.presence.may_write(host) is not None

    def _note_change(self, host: str, answers: bool) -> None:
        cause = self._site.agents.presence.cause(host)
        if answers:
            log.info("host is reachable again", host=host)
        elif cause is not None:
            log.warning("host is unreachable", host=host, error=cause.code, reason=cause.message, remedy=cause.remedy)
        else:
            log.warning("host is unreachable", host=host)

    async def _ask(self, host: str) -> bool:
        """Query the agent and update the catalog. False if the agent does not answer."""
        queried, changes = now(), self._changes
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
            await asyncio.to_thread(self._write_servers, host, queried, servers)
            if host not in self._fences or self._fences[host].done():  # a hanging node must not delay the queries of its host
                self._fences[host] = asyncio.create_task(fence(self._site, agent, servers))
        if facts is not None:
            await asyncio.to_thread(self._write_facts, host, facts)
        unknown = self._site.agents.unknown.get(host, [])
        if unknown and (host not in self._forgets or self._forgets[host].done()):
            self._forgets[host] = asyncio.create_task(forget_adopted(self._site, host, unknown))
        return True

    def _write_servers(self, host: str, queried: datetime, servers: list[ServerView]) -> None:
        """Write the changes. Skip a server whose row a step has updated since the query."""
        views = {view.id: view.model_dump(mode="json") for view in servers}
        with self._site.catalog.read() as session:
            living = select(Instance).where(Instance.host == host, Instance.deleted.is_(None))
            known = list(session.scalars(living))
            changed = [i.id for i in known if not _is_newer(i, queried) and _mirror(i, views.get(i.id))]
            unknown = [view for view in servers if view.id not in {i.id for i in known}]
            self._note_unknown(host, [view for view in unknown if not _is_leaving(session.get(Instance, view.id), host)])
        if not changed:
            return
        is_up = False
        with self._site.catalog.write() as session:
            for instance_id in changed:
                instance = session.get(Instance, instance_id)
                if instance is not None and not _is_newer(instance, queried):
                    before = instance.state
                    _mirror(instance, views.get(instance_id))
                    instance.seen = now()
                    is_up = is_up or (instance.state == "running" and before != "running")
        if is_up:
            self._site.follow_policies()

    def _note_unknown(self, host: str, unknown: list[ServerView]) -> None:
        before = {view.id for view in self._site.agents.unknown.get(host, [])}
        self._site.agents.unknown[host] = unknown
        for view in unknown:
            if view.id not in before:
                log.warning(
                    "a server of a host belongs to no instance",
                    host=host,
                    server=view.id,
                    name=view.name,
                    remedy=f"strongroom host servers {host}",
                )

    def _write_facts(self, host: str, facts: HostView) -> None:
        """Record the facts of a host, under its name in the catalog. A host that was removed meanwhile is not added again."""
        with self._site.catalog.write() as session:
            row = session.get(Host, host)
            if row is None:
                if not self._site.agents.embedded(host):
                    return
                row = Host(name=host)
                session.add(row)
            has_new_limit = (row.view or {}).get("jobs_limit") != facts.jobs_limit
            row.view = facts.model_copy(update={"name": host}).model_dump(mode="json")
            row.seen = now()
            if has_new_limit:
                self._site.agents.on_host(host, facts.jobs_limit)


def _cause(host: str, error: StrongroomError | TimeoutError) -> HostSilent:
    if isinstance(error, HostSilent):
        return error
    if isinstance(error, TimeoutError):
        return HostTimeout(
            f"the agent of host {host} did not answer within {ANSWER:.0f} seconds",
            remedy="Check the load of the host and the log of its agent.",
        )
    return AgentBroken(f"the agent of host {host} returned an error: {error.message}", remedy=error.remedy)


def _is_settled(view: ServerView) -> bool:
    """Whether the server will not change without an intervention."""
    return view.job is None and (
        (view.state == "running" and view.healthy) or view.state in ("new", "failed", "standby") or view.wanted == "stopped"
    )


def _mirror(instance: Instance, view: dict[str, Any] | None) -> bool:
    """Copy the agent's view of the server, or that it has none, into the row. True when that changes the row."""
    return outcomes.mirror(instance, view) if view is not None else outcomes.mark_missing(instance)


def _is_leaving(instance: Instance | None, host: str) -> bool:
    """Whether the instance was deleted on this host just now, while the agent was queried."""
    return instance is not None and instance.deleted is not None and instance.host == host and now() - instance.deleted < LEAVING


def _is_newer(instance: Instance, queried: datetime) -> bool:
    """Whether the row was updated after the query."""
    return instance.seen is not None and instance.seen > queried
