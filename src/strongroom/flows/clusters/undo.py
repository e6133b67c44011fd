"""Undoes single phases of a run that failed before its point of no return. Each is idempotent: the notes say what was done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from sqlalchemy import select

from strongroom.catalog import Cluster, Instance, Job, Run
from strongroom.catalog.find import find_job
from strongroom.datastores import GaleraView
from strongroom.errors import HostSilent, NotFound, StrongroomError
from strongroom.flows.clusters.nodes import Ring, load_ring, of
from strongroom.flows.clusters.recover import bring_up
from strongroom.flows.clusters.restore import prepared, taking_part
from strongroom.flows.clusters.run import Journal
from strongroom.flows.site import Site


async def drop_prepared(ring: Ring, journal: Journal, reached: Sequence[Instance], force: bool) -> None:
    """Undo ``prepare``: remove what the nodes prepared beside their data."""
    for node in prepared(ring, journal):
        if child := journal.node(node.id).get("job"):
            job = await asyncio.to_thread(_job, ring.site, child)
            with contextlib.suppress(NotFound, HostSilent):  # it had no attempt yet; or is cancelled when its host is back
                await ring.agent(node).cancel_job(f"{job.id}-{job.attempts}")


async def serve_again(ring: Ring, journal: Journal, reached: Sequence[Instance], force: bool) -> None:
    """Undo ``stop``: the nodes serve their previous data, in its epoch. Unreachable ones are noted for ``make_up``."""
    if "stopped" not in journal.facts:
        return
    await asyncio.to_thread(_old_epoch, ring, journal)
    for node in taking_part(ring, journal):
        if node not in reached:
            await journal.note(node.id, owed=True)
    ring = await asyncio.to_thread(load_ring, ring.site, ring.job.id)
    await ring.enroll(reached, ring.cluster.epoch)
    await bring_up(ring, force=force)


async def swap_back(ring: Ring, journal: Journal, reached: Sequence[Instance], force: bool) -> None:
    """Undo ``swap``: each node has its previous data again. Also stops what ``bootstrap`` started; ``force`` kills it."""
    for node in reached:
        entry = journal.node(node.id)
        if entry.get("swapped"):
            await of(node, ring.agent(node).stop_server(node.id, kill=force))
            with contextlib.suppress(NotFound):  # it was not swapped yet
                await ring.see(await of(node, ring.agent(node).undo_swap(node.id, entry["data"])))


def _old_epoch(ring: Ring, journal: Journal) -> None:
    with ring.site.catalog.write() as session:
        cluster = session.get(Cluster, ring.cluster.id)
        assert cluster is not None
        cluster.epoch = int(journal.facts["epoch_before"])


async def make_up(ring: Ring) -> None:
    """On nodes that could not be reached when everything was put back, it is done now, if they answer."""
    owing = await asyncio.to_thread(_owing, ring)
    if not owing:
        return
    views = await ring.views()
    for journal in owing:
        answer = [n for n in ring.nodes if journal.node(n.id).get("owed") and isinstance(views[n.id], GaleraView)]
        nodes = [node for node in answer if not _is_whole(ring, views[node.id])]
        await swap_back(ring, journal, nodes, force=False)
        await ring.enroll(nodes, ring.cluster.epoch)
        for node in answer:
            await journal.note(node.id, owed=False)


def _is_whole(ring: Ring, view: GaleraView | StrongroomError) -> bool:
    """It was restored since."""
    return isinstance(view, GaleraView) and view.synced and view.data_epoch == ring.cluster.epoch


def _owing(ring: Ring) -> list[Journal]:
    with ring.site.catalog.read() as session:
        runs = session.scalars(select(Run).where(Run.cluster_id == ring.cluster.id).order_by(Run.created))
        return [Journal(ring.site, run) for run in runs if any(entry.get("owed") for entry in run.nodes.values())]


def _job(site: Site, job_id: str) -> Job:
    with site.catalog.read() as session:
        return find_job(session, None, job_id)
