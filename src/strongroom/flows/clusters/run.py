"""The journal of a cluster that gets data: read at the beginning of each step, written around each thing that it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Literal, TypedDict, Unpack, cast

from sqlalchemy.exc import DBAPIError

from strongroom.catalog import Run, now
from strongroom.catalog.find import find_job
from strongroom.errors import NotFound
from strongroom.flows.site import Site

PRESENT = 30.0
"""Seconds between two notes that a run is worked on."""
AWAY = 300.0
"""Seconds without such a note after which the service was away for long."""
PhaseName = Literal["prepare", "seed", "stop", "swap", "bootstrap", "join", "check", "done", "undone"]


class Facts(TypedDict, total=False):
    """What is known of a run, in the column ``facts``. Journals of older versions may lack some of it. Times are ISO texts."""

    uuid: str
    """The new history."""
    position: str
    """Its first position, ``uuid:seqno``."""
    first: str
    """Id of the node that bootstraps."""
    epoch: int
    epoch_before: int
    taken: str | None
    """When the backup ended."""
    stopped: str
    """Since when no node serves."""
    before: dict[str, str]
    """Name of the node → its position before it was stopped."""
    serving: str
    """Since when the new data serves."""
    attended: str | None
    """When a step last worked on the run."""
    away: int | None
    """Seconds for which the service was down meanwhile, if it was long."""
    waits: bool
    """Prepared; waits for a user to start the outage."""
    tables: int
    """How many tables were compared."""


class NodeNotes(TypedDict, total=False):
    """What was done to a node, in the column ``nodes``."""

    node: str
    """Its name."""
    job: str
    """Id of the job that prepares its data."""
    data: str
    """Name of its new data directory."""
    swapped: bool
    joined: bool
    sent: bool
    """It gets a full state transfer instead of using what it prepared."""
    owed: bool
    """It was unreachable when the run was undone: undo it when it is back."""


class Journal:
    """One run. Each ``note`` is durable when it returns."""

    def __init__(self, site: Site, run: Run) -> None:
        self._site = site
        self.run = run

    @classmethod
    async def of(cls, site: Site, job_id: str) -> Journal:
        """The run of the job: its own, or the one that it resumes. Raises NotFound."""

        def read() -> Run | None:
            with site.catalog.read() as session:
                job = find_job(session, None, job_id)
                return session.get(Run, job.params.get("run", job.id))

        run = await asyncio.to_thread(read)
        if run is None:
            raise NotFound(f"the journal of job {job_id} is gone")
        return cls(site, run)

    @property
    def facts(self) -> Facts:
        """What is known of the run."""
        return cast(Facts, self.run.facts)

    def node(self, instance_id: str) -> NodeNotes:
        """What is noted of a node."""
        return cast(NodeNotes, self.run.nodes.get(instance_id, {}))

    @contextlib.asynccontextmanager
    async def attended(self) -> AsyncIterator[None]:
        """While the run is worked on it is noted now and again. When nobody did for long, the fact ``away`` has the seconds."""
        last = self.facts.get("attended")
        gone = (now() - datetime.fromisoformat(last)).total_seconds() if last else 0.0
        longest = max(gone, self.facts.get("away") or 0)
        await self.fact(attended=now().isoformat(), away=round(longest) if longest > AWAY else None)
        noting = asyncio.create_task(self._note_presence())
        try:
            yield
        finally:
            noting.cancel()
            await asyncio.gather(noting, return_exceptions=True)

    async def _note_presence(self) -> None:
        def write() -> None:
            with self._site.catalog.write() as session:
                run = session.get(Run, self.run.id)
                if run is not None:
                    run.facts = {**run.facts, "attended": now().isoformat()}

        while True:
            await asyncio.sleep(PRESENT)
            with contextlib.suppress(DBAPIError):  # the database is away: the next note tells
                await asyncio.to_thread(write)

    async def enter(self, phase: PhaseName, **facts: Unpack[Facts]) -> None:
        """From now on the run is in this phase."""
        await self._write(phase=phase, facts=facts)

    async def note(self, instance_id: str, **done: Unpack[NodeNotes]) -> None:
        """Something was done to a node."""
        await self._write(nodes={instance_id: done})

    async def note_all(self, nodes: Mapping[str, NodeNotes]) -> None:
        """Something was, or will be, done to each of these nodes."""
        await self._write(nodes=nodes)

    async def fact(self, **facts: Unpack[Facts]) -> None:
        """Something is known of the run."""
        await self._write(facts=facts)

    async def _write(self, *, phase: str = "", facts: Facts | None = None, nodes: Mapping[str, NodeNotes] | None = None) -> None:
        def write() -> Run:
            with self._site.catalog.write() as session:
                run = session.get(Run, self.run.id)
                assert run is not None
                run.phase, run.updated = phase or run.phase, now()
                run.facts = {**run.facts, **(facts or {})}
                run.nodes = {**run.nodes, **{node: {**run.nodes.get(node, {}), **done} for node, done in (nodes or {}).items()}}
                return run

        self.run = await asyncio.to_thread(write)
