"""Look after hosts and servers: mirror what agents say into the catalog, notice silence, sweep and purge once a day."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select

from strongroom.agent.models import HostView, ServerView
from strongroom.artifact import sweep_orphans
from strongroom.catalog import Backup, Host, Instance, Job, now
from strongroom.errors import StrongroomError
from strongroom.flows import _outcomes
from strongroom.flows._control import Control
from strongroom.flows._engine import Engine
from strongroom.flows._fence import fence

log = structlog.get_logger()

PACE = 1.0
"""Seconds between two looks at an agent."""
HOST_PACE = 15.0
"""Seconds between two looks at the facts of a host."""
SILENT = timedelta(seconds=90)
"""A host that was not heard of for this long is called silent (Trove's limit for a guest)."""
DAILY = 24 * 3600.0


class Monitor:
    """Runs as a task of the service's event loop."""

    def __init__(self, control: Control, engine: Engine) -> None:
        self._control = control
        self._engine = engine
        self._task: asyncio.Task[None] | None = None
        self._next_host: dict[str, float] = {}

    async def look(self) -> None:
        """Look at every host once: the catalog knows its hosts and servers after it."""
        for host in self._control.hosts:
            await self._look(host)

    def start(self) -> None:
        """Go on looking in the background. The engine must run."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the task."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        next_daily = time.monotonic()
        while True:
            try:
                await self.look()
                if time.monotonic() >= next_daily:
                    next_daily = time.monotonic() + DAILY
                    await asyncio.to_thread(self.tidy)
            except Exception:
                log.exception("monitor stumbled")
            await asyncio.sleep(PACE)

    async def _look(self, host: str) -> None:
        agent = self._control.agent(host)
        asked = now()
        try:
            servers = await agent.servers()
            facts: HostView | None = None
            if time.monotonic() >= self._next_host.get(host, 0):
                facts = await agent.host()
                self._next_host[host] = time.monotonic() + HOST_PACE
        except StrongroomError as error:
            log.warning("agent does not answer", host=host, reason=error.message)
            return
        await asyncio.to_thread(self._write, host, asked, servers, facts)
        await fence(self._control, agent, servers)

    def _write(self, host: str, asked: datetime, servers: list[ServerView], facts: HostView | None) -> None:
        """Mirror what changed. A step that has seen a server since we asked knows better."""
        views = {view.id: view.model_dump(mode="json") for view in servers}
        with self._control.catalog.read() as session:
            living = select(Instance).where(Instance.host == host, Instance.deleted.is_(None), Instance.id.in_(views))
            changed = [i.id for i in session.scalars(living) if not _later(i, asked) and _outcomes.mirror(i, views[i.id])]
        stale = facts is not None
        if not changed and not stale:
            return
        with self._control.catalog.write() as session:
            for instance_id in changed:
                instance = session.get(Instance, instance_id)
                if instance is not None and not _later(instance, asked):
                    _outcomes.mirror(instance, views[instance_id])
                    instance.seen = now()
            if facts is not None:
                row = session.get(Host, host) or Host(name=host)
                row.view = facts.model_dump(mode="json")
                row.seen = now()
                session.add(row)

    def tidy(self) -> None:
        """Once a day: remove what failed backups of this service left in the store, and DBOS's old history.

        Where stores are used with the tokens of those who ask, what was left is only named.
        """

        def is_running(backup_id: str) -> bool:
            with self._control.catalog.read() as session:
                row = session.get(Backup, backup_id)
                return row is not None and row.status in Backup.RUNNING

        swept = 0
        owner = self._control.catalog.service_id
        for store in self._control.stores():
            try:
                swept += len(sweep_orphans(store, owner=owner, is_running=is_running, older_than=timedelta(hours=1)))
            except StrongroomError as error:
                log.warning("could not sweep the store", error=error.code, reason=error.message)
        for backup_id, project, left in self._left():
            log.warning(
                "a failed backup left objects in the store",
                backup=backup_id,
                project=project,
                objects=left,
                remedy=f"Somebody of the project deletes the backup: strongroom backup delete {backup_id}",
            )
        log.info("tidied", orphans=swept, workflows=self._engine.purge())

    def _left(self) -> Iterator[tuple[str, str, str]]:
        """Failed backups of which something is in the store, their projects, and where."""
        failed = select(Backup.id, Backup.project, Job.output).join(Job, Job.backup_id == Backup.id)
        with self._control.catalog.read() as session:
            for backup_id, project, output in session.execute(
                failed.where(Backup.status == "FAILED", Backup.deleted.is_(None), Job.kind == "backup")
            ):
                if left := output.get("left"):
                    yield backup_id, project, left


def _later(instance: Instance, asked: datetime) -> bool:
    return instance.seen is not None and instance.seen > asked
