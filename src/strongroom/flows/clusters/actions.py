"""The steps of a cluster's other jobs: adopt, recover, restart, activate, discard previous data, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from strongroom.agent.client import AgentClient
from strongroom.agent.models import ServerDefinition, ServerView
from strongroom.catalog import Cluster, Instance, Run, now
from strongroom.catalog.find import find_job, open_run
from strongroom.datastores import GaleraView
from strongroom.errors import Conflict, JobError, NotFound
from strongroom.flows.clusters.nodes import Ring, call_node, call_nodes, describe_state, format_table, load_ring, node_name
from strongroom.flows.clusters.phases import is_reversible, undo_phases
from strongroom.flows.clusters.recover import bring_up
from strongroom.flows.clusters.run import Journal
from strongroom.flows.clusters.undo import undo_owed
from strongroom.flows.site import Site


async def adopt(site: Site, job_id: str) -> None:
    """Query all nodes, which must form one complete cluster. Nothing is changed."""
    ring = await asyncio.to_thread(load_ring, site, job_id)
    await ring.report("query the nodes")

    async def put(node: Instance) -> None:
        definition = ServerDefinition.model_validate(ring.job.params["adopt"][node.id])
        await ring.record_view(await ring.agent(node).put_server(node.id, definition))
        await ring.record_view(await ring.agent(node).start_server(node.id))

    await call_nodes(ring.nodes, put)
    views = await call_nodes(ring.nodes, lambda node: ring.agent(node).galera(node.id))
    states = {key: f"{describe_state(view)}, {view.cluster or 'in no cluster'}, {view.uuid}" for key, view in views.items()}
    nodes = format_table(ring, states)
    if len({(view.cluster, view.uuid) for view in views.values()}) != 1 or not all(view.synced for view in views.values()):
        raise JobError(
            f"these servers do not form one complete cluster:\n{nodes}",
            remedy="Start all nodes of the cluster and name all of them; then adopt it again.",
        )
    first = views[ring.nodes[0].id]
    if first.size != len(ring.nodes):
        raise JobError(
            f"the cluster has {first.size} nodes, but {len(ring.nodes)} were named:\n{nodes}",
            remedy="Name all nodes; then adopt the cluster again.",
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
    """Recover the cluster. A restore that did not reach the point of no return and was not undone is undone first."""
    ring = await asyncio.to_thread(load_ring, site, job_id)
    params = ring.job.params
    force = bool(params.get("force"))
    if not force:
        views = await ring.views()
        await ring.require_paths(node for node in ring.nodes if isinstance(views[node.id], GaleraView))
    await undo_owed(ring)
    run = await asyncio.to_thread(_find_reversible_run, site, ring.cluster.id)
    if run is not None:
        await undo_phases(ring, Journal(site, run), force=force)
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


def _find_reversible_run(site: Site, cluster_id: str) -> Run | None:
    """An interrupted restore that can still be undone."""
    with site.catalog.read() as session:
        run = open_run(session, cluster_id)
        return run if run is not None and run.backup_id is not None and is_reversible(run.phase) else None


async def restart(site: Site, job_id: str) -> None:
    """Restart the nodes one at a time; each is Synced before the next one stops."""
    await _roll(site, job_id, "restart", lambda agent, server: agent.restart_server(server))


async def activate(site: Site, job_id: str) -> None:
    """Activate the nodes of an isolated copy, one at a time, as in a restart."""
    await _roll(site, job_id, "activate", lambda agent, server: agent.activate(server))


async def _roll(site: Site, job_id: str, verb: str, action: Callable[[AgentClient, str], Awaitable[ServerView]]) -> None:
    ring = await asyncio.to_thread(load_ring, site, job_id)
    done: list[str] = list(ring.job.output.get("restarted", []))
    for node in ring.nodes:
        if node.id in done:
            continue
        await _require_synced(ring, except_node=node)
        await ring.report(f"{verb} {node_name(node)}", f"{len(done)} of {len(ring.nodes)} nodes are done")
        await ring.record_view(await call_node(node, action(ring.agent(node), node.id)))
        await ring.wait_synced(node, None)
        done = [*done, node.id]
        await asyncio.to_thread(_record_restarted, site, job_id, done)


def _record_restarted(site: Site, job_id: str, done: list[str]) -> None:
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        job.output = {**job.output, "restarted": done}


async def _require_synced(ring: Ring, *, except_node: Instance | None = None) -> None:
    """Raise Conflict unless all nodes, or all but one, are Synced."""
    views = await ring.views()
    for node in ring.nodes:
        view = views[node.id]
        if node is not except_node and not (isinstance(view, GaleraView) and view.synced):
            state = describe_state(view) if isinstance(view, GaleraView) else view.message
            skipped = f"{node_name(except_node)} is not restarted" if except_node else "no data is discarded"
            raise Conflict(
                f"{node_name(node)} is not Synced ({state}), so {skipped}",
                remedy=f"Wait until it is Synced, or recover the cluster: `strongroom cluster recover {ring.cluster.name}`.",
            )


async def discard_old(site: Site, job_id: str) -> None:
    """Delete the previous data of every node while all nodes are Synced."""
    ring = await asyncio.to_thread(load_ring, site, job_id)
    for node in ring.nodes:
        await _require_synced(ring)
        await ring.report(f"discard the previous data of {node_name(node)}")
        await ring.record_view(await call_node(node, ring.agent(node).discard_old(node.id)))


async def delete(site: Site, job_id: str) -> None:
    """Delete every node with its data; adopted nodes are only forgotten. Ignore nodes that their agents do not know."""
    ring = await asyncio.to_thread(load_ring, site, job_id)
    await ring.report("delete the nodes")

    async def remove(node: Instance) -> None:
        try:
            await ring.agent(node).delete_server(node.id)
        except NotFound:
            return

    await call_nodes(ring.nodes, remove)

    def mark() -> None:
        with site.catalog.write() as session:
            for node in ring.nodes:
                row = session.get(Instance, node.id)
                assert row is not None
                row.deleted = now()

    await asyncio.to_thread(mark)
