"""The journal of a cluster that gets data: read at the beginning of each step, written around each thing that it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy.exc import DBAPIError

from strongroom.catalog import Run, now
from strongroom.catalog.find import find_job
from strongroom.errors import NotFound
from strongroom.flows.site import Control

PRESENT = 30.0
"""Seconds between two notes that a run is worked on."""
AWAY = 300.0
"""Seconds without such a note after which the service was away for long."""
PHASES = ("prepare", "seed", "stop", "swap", "bootstrap", "join", "check", "done")


class Journal:
    """One run. Each ``note`` is durable when it returns."""

    def __init__(self, control: Control, run: Run) -> None:
        self._control = control
        self.run = run

    @classmethod
    async def of(cls, control: Control, job_id: str) -> Journal:
        """The run of the job: its own, or the one that it resumes. Raises NotFound."""

        def read() -> Run | None:
            with control.catalog.read() as session:
                job = find_job(session, None, job_id)
                return session.get(Run, job.params.get("run", job.id))

        run = await asyncio.to_thread(read)
        if run is None:
            raise NotFound(f"the journal of job {job_id} is gone")
        return cls(control, run)

    def passed(self, phase: str) -> bool:
        """Whether the run is beyond the phase."""
        return self.run.phase in PHASES and PHASES.index(self.run.phase) > PHASES.index(phase)

    def node(self, instance_id: str) -> dict[str, Any]:
        """What is noted of a node."""
        return dict(self.run.nodes.get(instance_id, {}))

    @contextlib.asynccontextmanager
    async def attended(self) -> AsyncIterator[None]:
        """While the run is worked on it is noted now and again. When nobody did for long, the fact ``away`` has the seconds."""
        last = self.run.facts.get("attended")
        gone = (now() - datetime.fromisoformat(last)).total_seconds() if last else 0.0
        longest = max(gone, self.run.facts.get("away") or 0)
        await self.fact(attended=now().isoformat(), away=round(longest) if longest > AWAY else None)
        noting = asyncio.create_task(self._note_presence())
        try:
            yield
        finally:
            noting.cancel()
            await asyncio.gather(noting, return_exceptions=True)

    async def _note_presence(self) -> None:
        def write() -> None:
            with self._control.catalog.write() as session:
                run = session.get(Run, self.run.id)
                if run is not None:
                    run.facts = {**run.facts, "attended": now().isoformat()}

        while True:
            await asyncio.sleep(PRESENT)
            with contextlib.suppress(DBAPIError):  # the database is away: the next note tells
                await asyncio.to_thread(write)

    async def enter(self, phase: str, **facts: Any) -> None:
        """From now on the run is in this phase."""
        await self._write(phase=phase, facts=facts)

    async def note(self, instance_id: str, **done: Any) -> None:
        """Something was done to a node."""
        await self._write(nodes={instance_id: done})

    async def note_all(self, nodes: Mapping[str, dict[str, Any]]) -> None:
        """Something was, or will be, done to each of these nodes."""
        await self._write(nodes=nodes)

    async def fact(self, **facts: Any) -> None:
        """Something is known of the run."""
        await self._write(facts=facts)

    async def _write(
        self, *, phase: str = "", facts: dict[str, Any] | None = None, nodes: Mapping[str, dict[str, Any]] | None = None
    ) -> None:
        def write() -> Run:
            with self._control.catalog.write() as session:
                run = session.get(Run, self.run.id)
                assert run is not None
                run.phase, run.updated = phase or run.phase, now()
                run.facts = {**run.facts, **(facts or {})}
                run.nodes = {**run.nodes, **{node: {**run.nodes.get(node, {}), **done} for node, done in (nodes or {}).items()}}
                return run

        self.run = await asyncio.to_thread(write)
