"""Look after hosts and servers: mirror what agents say into the catalog, notice silence, sweep and purge once a day."""

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
from sqlalchemy.orm import Session

from strongroom.agent.models import HostView, ServerView
from strongroom.artifact import Location, sweep_orphans
from strongroom.catalog import Backup, Host, Instance, Job, now
from strongroom.errors import AgentBroken, HostSilent, HostTimeout, StorageError, StrongroomError
from strongroom.flows import _outcomes
from strongroom.flows._artifact_end import finish_left
from strongroom.flows._control import Control
from strongroom.flows._engine import Engine
from strongroom.flows._fence import fence
from strongroom.flows._return import call_back

log = structlog.get_logger()

PACE = 1.0
"""Seconds between two looks at an agent whose servers are not all as they should be, or that does not answer."""
CALM = 15.0
"""Seconds between two looks at the embedded agent, which tells by itself when something changes."""
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
DAILY = 24 * 3600.0
LEAVING = timedelta(seconds=30)
"""Time after its deletion in which an instance may still be among the servers of its host."""


class Monitor:
    """Runs as a task of the service's event loop. A host that hangs does not keep the others from being seen."""

    def __init__(self, control: Control, engine: Engine) -> None:
        self._control = control
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._returns: dict[str, asyncio.Task[None]] = {}
        self._fences: dict[str, asyncio.Task[None]] = {}
        self._next_host: dict[str, float] = {}
        self._answers: dict[str, bool] = {}
        self._next_look: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._changes = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def look(self) -> None:
        """Look at every host once: after it the catalog knows the embedded one, and of the others those that answer soon."""
        self._begin_looks()
        ours = [look for host, look in self._looks.items() if self._control.embedded(host)]
        others = [look for host, look in self._looks.items() if not self._control.embedded(host)]
        await asyncio.gather(*ours)
        if others:
            await asyncio.wait(others, timeout=FIRST_LOOK)

    def start(self) -> None:
        """Go on looking in the background. The engine must run."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run())
        self._control.ask_hosts = self.ask_hosts

    def ask_hosts(self) -> None:
        """Ask all hosts for their facts, and wait for those that answer soon. From another thread than that of the event loop."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self._ask_all(), self._loop).result()

    async def _ask_all(self) -> None:
        self._next_host.clear()
        looks = [asyncio.create_task(self._look(host)) for host in self._control.hosts]
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
        for host in self._control.hosts:
            if self._control.embedded(host):
                self._next_look[host] = 0.0
        self._wake.set()

    async def stop(self) -> None:
        """End all tasks."""
        tasks = [*self._looks.values(), *self._returns.values(), *self._fences.values(), *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self) -> None:
        next_alone = next_daily = time.monotonic()
        tidying: asyncio.Future[None] | None = None
        while True:
            try:
                self._begin_looks()
                if time.monotonic() >= next_alone:
                    next_alone = time.monotonic() + ALONE
                    if not await asyncio.to_thread(self._engine.stay_alone):
                        log.critical("another strongroom serve has taken over the database; this one ends")
                        os.kill(os.getpid(), signal.SIGTERM)
                if time.monotonic() >= next_daily and (tidying is None or tidying.done()):
                    next_daily = time.monotonic() + DAILY
                    tidying = asyncio.ensure_future(asyncio.to_thread(self._tidy_safely))  # hosts are watched meanwhile
            except OperationalError as error:
                log.warning("the database does not answer", reason=str(error.orig))
            except Exception:
                log.exception("monitor stumbled")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), self._pause())
            self._wake.clear()

    def _pause(self) -> float:
        """Seconds until something is due; nothing costs little to find."""
        due = [self._next_look.get(host, 0.0) for host in self._control.hosts if not self._is_looking(host)]
        return max(0.02, min(PACE, min(due, default=inf) - time.monotonic()))

    def _is_looking(self, host: str) -> bool:
        return host in self._looks and not self._looks[host].done()

    def _begin_looks(self) -> None:
        for host in self._control.hosts:
            if not self._is_looking(host) and time.monotonic() >= self._next_look.get(host, 0.0):
                self._next_look[host] = time.monotonic() + PACE
                self._looks[host] = asyncio.create_task(self._look(host))

    def _note_pace(self, host: str, servers: Sequence[ServerView], changes: int) -> None:
        """Look again soon where something is under way."""
        if self._changes != changes or not all(_is_settled(view) for view in servers):
            return
        embedded = self._control.embedded(host)
        silent_after = self._control.settings.hosts.silent_after
        calm = min(CALM, HOST_PACE * silent_after) if embedded else min(5.0, REMOTE_PACE * silent_after)
        self._next_look[host] = max(self._next_look.get(host, 0.0), time.monotonic() + calm)

    async def _look(self, host: str) -> None:
        try:
            answers = await self._ask(host)
            if answers != self._answers.get(host, True):
                self._note_change(host, answers)
            if answers and not self._answers.get(host, False):
                self._returns[host] = asyncio.create_task(call_back(self._control, host))
            self._answers[host] = answers
        except OperationalError as error:
            log.warning("the database does not answer", reason=str(error.orig))
        except Exception:
            log.exception("monitor stumbled", host=host)
        finally:
            self._wake.set()

    def _note_change(self, host: str, answers: bool) -> None:
        cause = self._control.presence.cause(host)
        if answers:
            log.info("host is back", host=host)
        elif cause is not None:
            log.warning("host does not answer", host=host, error=cause.code, reason=cause.message, remedy=cause.remedy)
        else:
            log.warning("host does not answer", host=host)

    async def _ask(self, host: str) -> bool:
        """Whether the agent answers; the catalog knows what it says."""
        asked, changes = now(), self._changes
        facts: HostView | None = None
        try:
            agent = self._control.agent(host)
            async with asyncio.timeout(None if self._control.embedded(host) else ANSWER):
                servers = await agent.servers()
                if time.monotonic() >= self._next_host.get(host, 0):
                    facts = await agent.host()
        except (StrongroomError, TimeoutError) as error:
            self._next_host.pop(host, None)
            self._control.presence.missed(host, _cause(host, error))
            return False
        if facts is not None:
            self._next_host[host] = time.monotonic() + HOST_PACE * self._control.settings.hosts.silent_after
        self._control.presence.heard(host)
        self._note_pace(host, servers, changes)
        await asyncio.to_thread(self._write, host, asked, servers, facts)
        if host not in self._fences or self._fences[host].done():  # a node that hangs does not keep its host from being seen
            self._fences[host] = asyncio.create_task(fence(self._control, agent, servers))
        return True

    def _write(self, host: str, asked: datetime, servers: list[ServerView], facts: HostView | None) -> None:
        """Mirror what changed. A step that has seen a server since we asked knows better."""
        views = {view.id: view.model_dump(mode="json") for view in servers}
        with self._control.catalog.read() as session:
            living = select(Instance).where(Instance.host == host, Instance.deleted.is_(None))
            known = list(session.scalars(living))
            changed = [i.id for i in known if not _later(i, asked) and _mirror(i, views.get(i.id))]
            strangers = [view for view in servers if view.id not in {i.id for i in known}]
            self._note_unknown(host, [view for view in strangers if not _is_leaving(session.get(Instance, view.id), host)])
        if not changed and facts is None:
            return
        with self._control.catalog.write() as session:
            for instance_id in changed:
                instance = session.get(Instance, instance_id)
                if instance is not None and not _later(instance, asked):
                    _mirror(instance, views.get(instance_id))
                    instance.seen = now()
            if facts is not None:
                self._note(session, host, facts)

    def _note_unknown(self, host: str, strangers: list[ServerView]) -> None:
        before = {view.id for view in self._control.unknown.get(host, [])}
        self._control.unknown[host] = strangers
        for view in strangers:
            if view.id not in before:
                log.warning(
                    "no instance stands for a server of a host",
                    host=host,
                    server=view.id,
                    name=view.name,
                    remedy=f"strongroom host servers {host}",
                )

    def _note(self, session: Session, host: str, facts: HostView) -> None:
        """Keep what the host says of itself, under the name that we know it by. One that was removed meanwhile stays gone."""
        row = session.get(Host, host)
        if row is None:
            if not self._control.embedded(host):
                return
            row = Host(name=host)
            session.add(row)
        is_other = (row.view or {}).get("jobs_limit") != facts.jobs_limit
        row.view = facts.model_copy(update={"name": host}).model_dump(mode="json")
        row.seen = now()
        if is_other:
            self._control.on_host(host, facts.jobs_limit)

    def _tidy_safely(self) -> None:
        try:
            self.tidy()
        except OperationalError as error:
            log.warning("the database does not answer", reason=str(error.orig))
        except Exception:
            log.exception("the daily sweep broke")

    def tidy(self) -> None:
        """Once a day: remove what failed backups of this service left in the store, and DBOS's old history.

        Where stores are used with the tokens of those who ask, what was left is only named.
        """

        def is_running(backup_id: str) -> bool:
            with self._control.catalog.read() as session:
                row = session.get(Backup, backup_id)
                hosts = session.scalars(select(Job.host).where(Job.backup_id == backup_id, Job.kind == "backup"))
                may_write = any(host and self._control.presence.cause(host) for host in hosts)
                return may_write or (row is not None and row.status in Backup.RUNNING)

        swept = 0
        owner = self._control.catalog.service_id
        for store in self._control.stores():
            try:
                hour = timedelta(hours=1)
                swept += len(sweep_orphans(store, owner=owner, is_running=is_running, older_than=hour, report=_report_left))
            except StrongroomError as error:
                log.warning("could not sweep the store", error=error.code, reason=error.message)
        self._finish_left()
        log.info("tidied", orphans=swept, workflows=self._engine.purge())

    def _finish_left(self) -> None:
        """Decide what failed jobs could not: a backup whose manifest is in the store is completed, anything else is removed."""
        for job_id, backup_id, project, left in self._left():
            if self._control.settings.storage.by_token:
                log.warning(
                    "a failed backup left objects in the store",
                    backup=backup_id,
                    project=project,
                    objects=left,
                    remedy=f"Somebody of the project deletes the backup: strongroom backup delete {backup_id}",
                )
                continue
            try:
                whole = finish_left(self._control, job_id)
            except StrongroomError as error:
                log.warning("could not finish a failed backup", backup=backup_id, error=error.code, reason=error.message)
            else:
                log.info("finished a failed backup", backup=backup_id, outcome="completed" if whole else "removed")

    def _left(self) -> list[tuple[str, str, str, str]]:
        """Failed backups of which something is in the store: job, backup, project, and where it is."""
        failed = select(Job.id, Backup.id, Backup.project, Job.output).join(Job, Job.backup_id == Backup.id)
        with self._control.catalog.read() as session:
            found = session.execute(failed.where(Backup.status == "FAILED", Backup.deleted.is_(None), Job.kind == "backup"))
            return [
                (job_id, backup_id, project, output["left"]) for job_id, backup_id, project, output in found if "left" in output
            ]


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
    return _outcomes.mirror(instance, view) if view is not None else _outcomes.miss(instance)


def _is_leaving(instance: Instance | None, host: str) -> bool:
    """It was deleted on this host just now, while the agent was asked."""
    return instance is not None and instance.deleted is not None and instance.host == host and now() - instance.deleted < LEAVING


def _report_left(location: Location, error: StorageError) -> None:
    log.warning(
        "cannot remove what a failed backup left in the store; it is skipped",
        at=location.prefix,
        error=error.code,
        reason=error.message,
        remedy=error.remedy,
    )


def _later(instance: Instance, asked: datetime) -> bool:
    return instance.seen is not None and instance.seen > asked
