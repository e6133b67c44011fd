"""Put a cluster back as it was, when it was to get other data and failed before the point of no return."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from sqlalchemy import select

from strongroom.catalog import Cluster, Instance, Job, Run
from strongroom.catalog.find import find_job
from strongroom.datastores import GaleraView
from strongroom.errors import HostSilent, NotFound, StrongroomError
from strongroom.flows._assembly import begin, prepared, taking_part
from strongroom.flows._control import Control
from strongroom.flows._journal import Journal
from strongroom.flows._presence import attend
from strongroom.flows._recovery import bring_up
from strongroom.flows._ring import Ring, load_ring, of


async def undo(control: Control, job_id: str) -> None:
    """After a failure: before the point of no return everything is put back, and the old cluster serves again.

    What waits for a person to begin the outage is kept.
    An agent that is away is waited for, as in the steps.
    """

    async def put() -> None:
        ring, journal = await begin(control, job_id)
        if journal.run.phase in Run.REVERSIBLE and not journal.run.facts.get("waits"):
            await put_back(ring, journal)

    await attend(control.presence, None, put)


async def put_back(ring: Ring, journal: Journal, *, force: bool = False) -> None:
    """Undo a run that is before the point of no return, from wherever it is. Idempotent. Raises what bring_up does.

    With ``force`` nodes that cannot be reached are left for later (``make_up``).
    """
    await ring.tell("put everything back", "the restore failed before the point of no return")
    views = await ring.views() if force else {}
    away = {key for key, view in views.items() if isinstance(view, HostSilent)}
    nodes = [node for node in taking_part(ring, journal) if node.id not in away]
    await _swap_back(ring, journal, nodes, kill=force)
    if "stopped" in journal.run.facts:
        await asyncio.to_thread(_old_epoch, ring, journal)
        for key in away & journal.run.nodes.keys():
            await journal.note(key, owed=True)
        ring = await asyncio.to_thread(load_ring, ring.control, ring.job.id)
        await ring.enroll(nodes, ring.cluster.epoch)
        await bring_up(ring, force=force)
    for node in prepared(ring, journal):
        if child := journal.node(node.id).get("job"):
            job = await asyncio.to_thread(_job, ring.control, child)
            with contextlib.suppress(NotFound, HostSilent):  # it came to no attempt; or is cancelled when its host is back
                await ring.agent(node).cancel_job(f"{job.id}-{job.attempts}")
    await journal.enter("undone")


async def _swap_back(ring: Ring, journal: Journal, nodes: Sequence[Instance], *, kill: bool) -> None:
    for node in nodes:
        entry = journal.node(node.id)
        if entry.get("swapped"):
            await of(node, ring.agent(node).stop_server(node.id, kill=kill))
            with contextlib.suppress(NotFound):  # it was not swapped yet
                await ring.see(await of(node, ring.agent(node).undo_swap(node.id, entry["data"])))


def _old_epoch(ring: Ring, journal: Journal) -> None:
    with ring.control.catalog.write() as session:
        cluster = session.get(Cluster, ring.cluster.id)
        assert cluster is not None
        cluster.epoch = int(journal.run.facts["epoch_before"])


async def make_up(ring: Ring) -> None:
    """On nodes that could not be reached when everything was put back, it is done now, if they answer."""
    views = await ring.views()
    for journal in await asyncio.to_thread(_owing, ring):
        answer = [n for n in ring.nodes if journal.node(n.id).get("owed") and isinstance(views[n.id], GaleraView)]
        nodes = [node for node in answer if not _is_whole(ring, views[node.id])]
        await _swap_back(ring, journal, nodes, kill=False)
        await ring.enroll(nodes, ring.cluster.epoch)
        for node in answer:
            await journal.note(node.id, owed=False)


def _is_whole(ring: Ring, view: GaleraView | StrongroomError) -> bool:
    """It was restored since."""
    return isinstance(view, GaleraView) and view.synced and view.data_epoch == ring.cluster.epoch


def _owing(ring: Ring) -> list[Journal]:
    with ring.control.catalog.read() as session:
        runs = session.scalars(select(Run).where(Run.cluster_id == ring.cluster.id).order_by(Run.created))
        return [Journal(ring.control, run) for run in runs if any(entry.get("owed") for entry in run.nodes.values())]


def _job(control: Control, job_id: str) -> Job:
    with control.catalog.read() as session:
        return find_job(session, None, job_id)
