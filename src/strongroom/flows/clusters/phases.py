"""The phases of a run that gives a cluster its data: one table says how each is done and undone, and up to where.

Until the first node serves the new data, a failure undoes everything; after that the run can only be continued. Each step reads
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
from strongroom.flows.clusters.restore import begin, taking_part
from strongroom.flows.clusters.run import Facts, Journal, PhaseName
from strongroom.flows.hosts.presence import retry_while_silent
from strongroom.flows.kind import Step
from strongroom.flows.site import Site

Do = Callable[[Ring, Journal], Awaitable[Facts]]
"""Idempotent. Returns what becomes known with the end of the phase."""
Undo = Callable[[Ring, Journal, Sequence[Instance], bool], Awaitable[None]]
"""Idempotent; runs for every phase, whether it was begun or not. Takes the nodes that are reached, and whether to force."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase. A run that is in it has not finished it."""

    name: PhaseName
    do: Do
    undo: Undo | None = None
    reversible: bool = False
    """A failure in this phase undoes the run."""


PHASES = (
    Phase("prepare", restore.prepare, undo.drop_prepared, reversible=True),
    Phase("seed", restore.seed, reversible=True),
    Phase("stop", restore.stop, undo.serve_again, reversible=True),
    Phase("swap", restore.swap, undo.swap_back, reversible=True),
    Phase("bootstrap", restore.bootstrap, reversible=True),
    Phase("join", restore.join),
    Phase("check", restore.check),
)
ORDER = (*(phase.name for phase in PHASES), "done")


def is_reversible(phase: str) -> bool:
    """Whether a run in this phase can be undone: the new data does not serve yet."""
    return any(known.name == phase and known.reversible for known in PHASES)


def make_steps(*, without: Sequence[PhaseName] = ()) -> tuple[Step, ...]:
    """The steps of a job that performs a run: all phases but those ``without``, and the end."""
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
            await journal.fact(**facts)

    step.__name__ = phase.name
    return step


def _is_beyond(run: Run, phase: Phase) -> bool:
    return run.phase in ORDER and ORDER.index(run.phase) > ORDER.index(phase.name)


async def undo_run(site: Site, job_id: str) -> None:
    """After a failure: before the point of no return everything is undone, and the cluster serves its previous data again.

    A run that waits for a user to start the outage is kept. An agent that is unreachable is waited for, as in the steps.
    """

    async def put() -> None:
        ring, journal = await begin(site, job_id)
        if is_reversible(journal.run.phase) and not journal.facts.get("waits"):
            await put_back(ring, journal)

    await retry_while_silent(site.agents.presence, None, put)


async def put_back(ring: Ring, journal: Journal, *, force: bool = False) -> None:
    """Undo a run that is before the point of no return, from wherever it is. Idempotent. Raises what ``bring_up`` does.

    With ``force``, unreachable nodes are left for later (``undo.make_up``).
    """
    await ring.tell("put everything back", "the restore failed before the point of no return")
    views: dict[str, GaleraView | Exception] = dict(await ring.views()) if force else {}
    reached = [node for node in taking_part(ring, journal) if not isinstance(views.get(node.id), HostSilent)]
    for phase in reversed(PHASES):
        if phase.undo is not None:
            await phase.undo(ring, journal, reached, force)
    await journal.enter("undone")
