"""Undoes single phases of a run that failed before the point of no return. Idempotent: the journal has what was done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from sqlalchemy import select

from strongroom.catalog import Cluster, Instance, Job, Run
from strongroom.catalog.find import find_job
from strongroom.datastores import GaleraView
from strongroom.errors import HostSilent, NotFound, StrongroomError
from strongroom.flows.clusters.nodes import Ring, call_node, load_ring
from strongroom.flows.clusters.recover import bring_up
from strongroom.flows.clusters.restore import list_participants, list_prepared
from strongroom.flows.clusters.run import Journal
from strongroom.flows.site import Site


async def drop_prepared(ring: Ring, journal: Journal, reached: Sequence[Instance], force: bool) -> None:
    """Undo ``prepare``: delete the data that the nodes prepared beside their current data."""
    for node in list_prepared(ring, journal):
        if child := journal.node(node.id).get("job"):
            job = await asyncio.to_thread(_job, ring.site, child)
            with contextlib.suppress(
                NotFound, HostSilent
            ):  # there was no attempt, or it is cancelled when its host answers again
                await ring.agent(node).cancel_job(f"{job.id}-{job.attempts}")


async def resume_service(ring: Ring, journal: Journal, reached: Sequence[Instance], force: bool) -> None:
    """Undo ``stop``: the nodes serve their previous data, in its epoch. Unreachable nodes are noted for ``undo_owed``."""
    if "stopped" not in journal.facts:
        return
    await asyncio.to_thread(_reset_epoch, ring, journal)
    for node in list_participants(ring, journal):
        if node not in reached:
            await journal.note(node.id, owed=True)
    ring = await asyncio.to_thread(load_ring, ring.site, ring.job.id)
    await ring.enroll(reached, ring.cluster.epoch)
    await bring_up(ring, force=force)


async def swap_back(ring: Ring, journal: Journal, reached: Sequence[Instance], force: bool) -> None:
    """Undo ``swap``: put the previous data of each node back. This also stops what ``bootstrap`` started; ``force`` kills it."""
    for node in reached:
        entry = journal.node(node.id)
        if entry.get("swapped"):
            await call_node(node, ring.agent(node).stop_server(node.id, kill=force))
            with contextlib.suppress(NotFound):  # its data was not swapped yet
                await ring.record_view(await call_node(node, ring.agent(node).undo_swap(node.id, entry["data"])))


def _reset_epoch(ring: Ring, journal: Journal) -> None:
    with ring.site.catalog.write() as session:
        cluster = session.get(Cluster, ring.cluster.id)
        assert cluster is not None
        cluster.epoch = int(journal.facts["epoch_before"])


async def undo_owed(ring: Ring) -> None:
    """Undo runs on nodes that were unreachable when they were undone, if the nodes answer now."""
    owing = await asyncio.to_thread(_find_owing, ring)
    if not owing:
        return
    views = await ring.views()
    for journal in owing:
        reached = [n for n in ring.nodes if journal.node(n.id).get("owed") and isinstance(views[n.id], GaleraView)]
        nodes = [node for node in reached if not _is_restored(ring, views[node.id])]
        await swap_back(ring, journal, nodes, force=False)
        await ring.enroll(nodes, ring.cluster.epoch)
        for node in reached:
            await journal.note(node.id, owed=False)


def _is_restored(ring: Ring, view: GaleraView | StrongroomError) -> bool:
    """Whether the node has been restored since."""
    return isinstance(view, GaleraView) and view.synced and view.data_epoch == ring.cluster.epoch


def _find_owing(ring: Ring) -> list[Journal]:
    """Journals of undone runs that were not undone on every node."""
    with ring.site.catalog.read() as session:
        runs = session.scalars(select(Run).where(Run.cluster_id == ring.cluster.id).order_by(Run.created))
        return [Journal(ring.site, run) for run in runs if any(entry.get("owed") for entry in run.nodes.values())]


def _job(site: Site, job_id: str) -> Job:
    with site.catalog.read() as session:
        return find_job(session, None, job_id)
