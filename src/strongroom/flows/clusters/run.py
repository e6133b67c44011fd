"""The journal of a run that creates or restores a cluster. Each step reads it first and records its changes."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack, cast

from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Instance, Job, Run, now
from strongroom.catalog.find import find_job
from strongroom.errors import NotFound
from strongroom.flows.clusters.nodes import node_name
from strongroom.flows.clusters.plan import Method
from strongroom.flows.site import Site

NOTE_PAUSE = 30.0
"""Seconds between two notes that a step works on the run."""
LONG_ABSENCE = 300.0
"""Seconds without such a note after which the service was down for long."""
PhaseName = Literal["prepare", "seed", "stop", "swap", "bootstrap", "join", "check", "done", "undone"]


class Facts(TypedDict, total=False):
    """Facts of a run, in the column ``facts``. Journals of older versions may lack some of them. Times are ISO strings."""

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
    """When the outage began."""
    before: dict[str, str]
    """Name of the node → its position before it was stopped."""
    serving: str
    """When the first node served the new data."""
    attended: str | None
    """When a step last worked on the run."""
    away: int | None
    """Seconds for which the service was down meanwhile, if that was long."""
    waits: bool
    """The data is prepared, and the run waits for a user to start the outage."""
    tables: int
    """Number of compared tables."""


class NodeNotes(TypedDict, total=False):
    """The progress of a node, in the column ``nodes``."""

    node: str
    """Its name."""
    job: str
    """Id of the job that prepares its data."""
    data: str
    """Name of its new data directory."""
    swapped: bool
    joined: bool
    sent: bool
    """It gets a full state transfer instead of using its prepared data."""
    owed: bool
    """It was unreachable when the run was undone, which must be done when it is reachable again."""


class Journal:
    """One run. Each ``note`` is durable when it returns."""

    def __init__(self, site: Site, run: Run) -> None:
        self._site = site
        self.run = run

    @classmethod
    async def load(cls, site: Site, job_id: str) -> Journal:
        """The run of the job: its own, or the one that it resumes. Raises NotFound."""

        def read() -> Run | None:
            with site.catalog.read() as session:
                job = find_job(session, None, job_id)
                return session.get(Run, job.params.get("run", job.id))

        run = await asyncio.to_thread(read)
        if run is None:
            raise NotFound(f"the journal of job {job_id} does not exist")
        return cls(site, run)

    @property
    def facts(self) -> Facts:
        """The facts of the run."""
        return cast(Facts, self.run.facts)

    def node(self, instance_id: str) -> NodeNotes:
        """The progress of a node."""
        return cast(NodeNotes, self.run.nodes.get(instance_id, {}))

    @contextlib.asynccontextmanager
    async def record_presence(self) -> AsyncIterator[None]:
        """Note regularly that a step works on the run. After a long absence, the fact ``away`` has its seconds."""
        last = self.facts.get("attended")
        gone = (now() - datetime.fromisoformat(last)).total_seconds() if last else 0.0
        longest = max(gone, self.facts.get("away") or 0)
        await self.add_facts(attended=now().isoformat(), away=round(longest) if longest > LONG_ABSENCE else None)
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
            await asyncio.sleep(NOTE_PAUSE)
            with contextlib.suppress(DBAPIError):  # the database does not answer; the next note follows
                await asyncio.to_thread(write)

    async def enter(self, phase: PhaseName, **facts: Unpack[Facts]) -> None:
        """Begin this phase, and add facts."""
        await self._write(phase=phase, facts=facts)

    async def note(self, instance_id: str, **done: Unpack[NodeNotes]) -> None:
        """Add to the progress of a node."""
        await self._write(nodes={instance_id: done})

    async def note_all(self, nodes: Mapping[str, NodeNotes]) -> None:
        """Add to the progress of several nodes."""
        await self._write(nodes=nodes)

    async def add_facts(self, **facts: Unpack[Facts]) -> None:
        """Add facts to the run."""
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


def new_run(
    session: Session, job: Job, cluster: Cluster, nodes: Sequence[Instance], backup: Backup | None, method: Method, **facts: Any
) -> Run:
    """Add the journal of a new run, in its first phase."""
    run = Run(
        id=job.id,
        cluster_id=cluster.id,
        backup_id=backup.id if backup else None,
        phase="prepare",
        method=method,
        nodes={node.id: {"node": node_name(node)} for node in nodes},
        facts={
            "uuid": str(uuid.uuid4()),
            "first": nodes[0].id,
            "epoch": cluster.epoch,
            "epoch_before": cluster.epoch,
            "taken": backup.finished.isoformat() if backup and backup.finished else None,
            **facts,
        },
    )
    session.add(run)
    return run
