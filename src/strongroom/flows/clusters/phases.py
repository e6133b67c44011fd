"""The phases of a run that creates or restores a cluster. A table defines how each is performed and undone.

Until the first node serves the new data, a failure undoes everything; after that, the run can only be resumed. Each step reads
the journal first and does what is not done yet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from strongroom.catalog import Instance, Run
from strongroom.datastores import GaleraView
from strongroom.errors import HostSilent
from strongroom.flows.clusters import restore, undo
from strongroom.flows.clusters.nodes import Ring
from strongroom.flows.clusters.restore import begin, list_participants
from strongroom.flows.clusters.run import Facts, Journal, PhaseName
from strongroom.flows.hosts.presence import retry_while_silent
from strongroom.flows.kind import Step
from strongroom.flows.site import Site

Do = Callable[[Ring, Journal], Awaitable[Facts]]
"""Idempotent. Returns the facts that are known at the end of the phase."""
Undo = Callable[[Ring, Journal, Sequence[Instance], bool], Awaitable[None]]
"""Idempotent; runs for every phase, even if it was not started. Takes the reachable nodes, and whether to force."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase. A run in this phase has not completed it."""

    name: PhaseName
    do: Do
    undo: Undo | None = None
    reversible: bool = False
    """A failure in this phase undoes the run."""


PHASES = (
    Phase("prepare", restore.prepare, undo.drop_prepared, reversible=True),
    Phase("seed", restore.seed, reversible=True),
    Phase("stop", restore.stop, undo.resume_service, reversible=True),
    Phase("swap", restore.swap, undo.swap_back, reversible=True),
    Phase("bootstrap", restore.bootstrap, reversible=True),
    Phase("join", restore.join),
    Phase("check", restore.check),
)
ORDER = (*(phase.name for phase in PHASES), "done")


def is_reversible(phase: str) -> bool:
    """Whether a run in this phase can be undone: no node serves the new data yet."""
    return any(known.name == phase and known.reversible for known in PHASES)


def make_steps(*, without: Sequence[PhaseName] = ()) -> tuple[Step, ...]:
    """The steps of a job that performs a run: all phases except those in ``without``, and the end."""
    phases = [phase for phase in PHASES if phase.name not in without]
    following = [phase.name for phase in phases[1:]]
    return (*map(_make_step, phases, [*following, None]), restore.finish)


def _make_step(phase: Phase, following: PhaseName | None) -> Step:
    async def step(site: Site, job_id: str) -> None:
        ring, journal = await begin(site, job_id)
        if _is_beyond(journal.run, phase):
            return
        facts = await phase.do(ring, journal)
        if following is not None:
            await journal.enter(following, **facts)
        else:
            await journal.add_facts(**facts)

    step.__name__ = phase.name
    return step


def _is_beyond(run: Run, phase: Phase) -> bool:
    return run.phase in ORDER and ORDER.index(run.phase) > ORDER.index(phase.name)


async def undo_run(site: Site, job_id: str) -> None:
    """Undo a failed run that has not reached the point of no return: the cluster serves its previous data again.

    A run that waits for a user to start the outage is kept. As in the steps, this waits for unreachable agents.
    """

    async def undo() -> None:
        ring, journal = await begin(site, job_id)
        if is_reversible(journal.run.phase) and not journal.facts.get("waits"):
            await undo_phases(ring, journal)

    await retry_while_silent(site.agents.presence, None, undo)


async def undo_phases(ring: Ring, journal: Journal, *, force: bool = False) -> None:
    """Undo all phases of a run that has not reached the point of no return. Idempotent. Raises the errors of ``bring_up``.

    With ``force``, unreachable nodes are skipped; ``undo.undo_owed`` does them later.
    """
    await ring.report("undo the restore", "the restore failed before the point of no return")
    views: dict[str, GaleraView | Exception] = dict(await ring.views()) if force else {}
    reached = [node for node in list_participants(ring, journal) if not isinstance(views.get(node.id), HostSilent)]
    for phase in reversed(PHASES):
        if phase.undo is not None:
            await phase.undo(ring, journal, reached, force)
    await journal.enter("undone")
