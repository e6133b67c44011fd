"""What the steps of a cluster's other jobs do: adopt, recover, restart, discard old data, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from strongroom.agent.client import AgentClient
from strongroom.agent.models import ServerDefinition, ServerView
from strongroom.catalog import Cluster, Instance, Run, now
from strongroom.catalog.find import find_job, open_run
from strongroom.datastores import GaleraView
from strongroom.errors import Conflict, JobError, NotFound
from strongroom.flows.clusters.nodes import Ring, how, load_ring, name, of, side_by_side, table
from strongroom.flows.clusters.phases import is_reversible, put_back
from strongroom.flows.clusters.recover import bring_up
from strongroom.flows.clusters.run import Journal
from strongroom.flows.clusters.undo import make_up
from strongroom.flows.site import Site


async def adopt(site: Site, job_id: str) -> None:
    """Ask each node who it is; together they must be one whole cluster. Nothing is changed."""
    ring = await asyncio.to_thread(load_ring, site, job_id)
    await ring.tell("ask the nodes who they are")

    async def put(node: Instance) -> None:
        definition = ServerDefinition.model_validate(ring.job.params["adopt"][node.id])
        await ring.see(await ring.agent(node).put_server(node.id, definition))
        await ring.see(await ring.agent(node).start_server(node.id))

    await side_by_side(ring.nodes, put)
    views = await side_by_side(ring.nodes, lambda node: ring.agent(node).galera(node.id))
    said = table(ring, {key: f"{how(view)}, {view.cluster or 'of no cluster'}, {view.uuid}" for key, view in views.items()})
    if len({(view.cluster, view.uuid) for view in views.values()}) != 1 or not all(view.synced for view in views.values()):
        raise JobError(
            f"these servers are not one cluster that is whole:\n{said}",
            remedy="Bring the cluster up, name all its nodes, adopt again.",
        )
    first = views[ring.nodes[0].id]
    if first.size != len(ring.nodes):
        raise JobError(
            f"the cluster has {first.size} nodes, and {len(ring.nodes)} were named:\n{said}",
            remedy="Name all of them, adopt again.",
        )

    def keep() -> None:
        with site.catalog.write() as session:
            cluster = session.get(Cluster, ring.cluster.id)
            assert cluster is not None
            cluster.wsrep_name, cluster.state_uuid = first.cluster, first.uuid
            for node in ring.nodes:
                row = session.get(Instance, node.id)
                assert row is not None
                row.node = views[node.id].node or row.node

    await asyncio.to_thread(keep)


async def recover(site: Site, job_id: str) -> None:
    """Bring the cluster back. A restore before its point of no return, that could not be undone, is undone first."""
    ring = await asyncio.to_thread(load_ring, site, job_id)
    params = ring.job.params
    force = bool(params.get("force"))
    if not force:
        views = await ring.views()
        await ring.require_paths(node for node in ring.nodes if isinstance(views[node.id], GaleraView))
    await make_up(ring)
    run = await asyncio.to_thread(_cut_off, site, ring.cluster.id)
    if run is not None:
        await put_back(ring, Journal(site, run), force=force)
        ring = await asyncio.to_thread(load_ring, site, job_id)
    first = ring.node(params["first"]) if params.get("first") else None
    found = await bring_up(ring, first=first, force=force)

    def keep() -> None:
        with site.catalog.write() as session:
            job = find_job(session, None, job_id)
            job.output = {**job.output, **found}
            cluster = session.get(Cluster, ring.cluster.id)
            assert cluster is not None
            cluster.state_uuid = found["uuid"]

    await asyncio.to_thread(keep)


def _cut_off(site: Site, cluster_id: str) -> Run | None:
    with site.catalog.read() as session:
        run = open_run(session, cluster_id)
        return run if run is not None and run.backup_id is not None and is_reversible(run.phase) else None


async def restart(site: Site, job_id: str) -> None:
    """Restart one node after the other; each is back and has all data before the next one goes."""
    await _roll(site, job_id, "restart", lambda agent, server: agent.restart_server(server))


async def activate(site: Site, job_id: str) -> None:
    """Let each node of a copy run what it did at its source: one after the other, as in a restart."""
    await _roll(site, job_id, "activate", lambda agent, server: agent.activate(server))


async def _roll(site: Site, job_id: str, verb: str, action: Callable[[AgentClient, str], Awaitable[ServerView]]) -> None:
    ring = await asyncio.to_thread(load_ring, site, job_id)
    done: list[str] = list(ring.job.output.get("restarted", []))
    for node in ring.nodes:
        if node.id in done:
            continue
        await _require_whole(ring, but=node)
        await ring.tell(f"{verb} {name(node)}", f"{len(done)} of {len(ring.nodes)} nodes are done")
        await ring.see(await of(node, action(ring.agent(node), node.id)))
        await ring.synced(node, None)
        done = [*done, node.id]
        await asyncio.to_thread(_restarted, site, job_id, done)


def _restarted(site: Site, job_id: str, done: list[str]) -> None:
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        job.output = {**job.output, "restarted": done}


async def _require_whole(ring: Ring, *, but: Instance) -> None:
    views = await ring.views()
    for node in ring.nodes:
        view = views[node.id]
        if node.id != but.id and not (isinstance(view, GaleraView) and view.synced):
            state = how(view) if isinstance(view, GaleraView) else view.message
            raise Conflict(
                f"{name(node)} is not Synced ({state}), so {name(but)} is not restarted",
                remedy=f"Wait for it, or `strongroom cluster recover {ring.cluster.name}`.",
            )


async def discard_old(site: Site, job_id: str) -> None:
    """Remove what restores have put aside, while the cluster serves from what is new."""
    ring = await asyncio.to_thread(load_ring, site, job_id)
    for node in ring.nodes:
        await _require_whole(ring, but=Instance(id=""))
        await ring.tell(f"discard the old data of {name(node)}")
        await ring.see(await of(node, ring.agent(node).discard_old(node.id)))


async def delete(site: Site, job_id: str) -> None:
    """Remove every node with its data, or forget those of others; one that its agent does not know is gone already."""
    ring = await asyncio.to_thread(load_ring, site, job_id)
    await ring.tell("delete the nodes")

    async def remove(node: Instance) -> None:
        try:
            await ring.agent(node).delete_server(node.id)
        except NotFound:
            return

    await side_by_side(ring.nodes, remove)

    def mark() -> None:
        with site.catalog.write() as session:
            for node in ring.nodes:
                row = session.get(Instance, node.id)
                assert row is not None
                row.deleted = now()

    await asyncio.to_thread(mark)
