"""Recovers a cluster that is down: finds the most advanced node, bootstraps it and lets the others join. Deletes no data."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from strongroom.agent.models import Start
from strongroom.catalog import Cluster, Instance
from strongroom.datastores import NO_UUID, GaleraPosition, GaleraView
from strongroom.errors import Conflict, ServerFailed, StrongroomError
from strongroom.flows.clusters.nodes import (
    LOOK,
    Ring,
    call_node,
    call_nodes,
    choose_error,
    describe_state,
    format_table,
    next_epoch,
    node_name,
)

SETTLE_PATIENCE = 15.0
"""Seconds in which nodes that were started after a power failure may form their cluster again without help."""


async def bring_up(
    ring: Ring, *, first: Instance | None = None, force: bool = False, status: Callable[[], str] = lambda: ""
) -> dict[str, Any]:
    """Make every node Synced. Returns the ``positions`` of the nodes, which one ``began``, and ``how``.

    If some nodes serve, the others join them. Otherwise all nodes are stopped and their positions are read. If every node has
    the same last view of the cluster, as after a power failure, all are started and form the cluster on their own; else the most
    advanced node (or ``first``) bootstraps, and the others join one at a time. Raises Conflict, unless ``force``, if a node is
    unreachable (it may have newer transactions) or if nodes have different histories. Warns of nodes that were left out.
    """
    views = await _wait_settled(ring, status)
    found = await _bring_up(ring, views, first, force, status)
    for node in ring.nodes:
        if isinstance(error := views[node.id], StrongroomError):
            await ring.add_warning(f"{node_name(node)} was left out, because it is unreachable: {error.message}")
    return found


async def _bring_up(
    ring: Ring,
    views: dict[str, GaleraView | StrongroomError],
    first: Instance | None,
    force: bool,
    status: Callable[[], str],
) -> dict[str, Any]:
    reports = {key: view for key, view in views.items() if isinstance(view, GaleraView)}
    reached = [node for node in ring.nodes if node.id in reports]
    serving = [node for node in reached if reports[node.id].synced and not _missed_a_restore(ring, reports[node.id])]
    if not serving:
        _refuse_silent(ring, views, force)
        if (closed := _find_closed(ring, reports)) and not force:
            raise closed
    else:
        uuid = _one_history(ring, {node.id: reports[node.id].uuid or "" for node in serving})
        others = [node for node in reached if node not in serving]
        replaced = [
            node for node in others if _missed_a_restore(ring, reports[node.id]) or _is_of_another(reports[node.id], uuid)
        ]
        if force:
            await _stop_hung(ring, others, reports, status)
        await _join(ring, [node for node in others if not reports[node.id].refuses], replaced, uuid, status)
        if closed := _find_closed(ring, {node.id: reports[node.id] for node in others}):
            raise closed
        positions = {node_name(node): f"{reports[node.id].uuid}:{reports[node.id].seqno}" for node in reached}
        text = f"{node_name(serving[0])} was serving; the others joined it"
        return {"positions": positions, "began": None, "how": text, "uuid": uuid}
    await _stop(ring, reached, status, force=force)  # also those that do not run: their agents may be about to start them again
    states = await _read_positions(ring, reached, status)
    views = await ring.views(reached)  # a stop ends what they knew of their last view
    reports |= {key: view for key, view in views.items() if isinstance(view, GaleraView)}
    positions = {node_name(node): _describe_position(states.get(node.id)) for node in reached}
    known = {
        key: state
        for key, state in states.items()
        if state is not None and state.known and not _missed_a_restore(ring, reports[key])
    }
    if not known:
        raise Conflict(
            f"no node of cluster {ring.cluster.name} knows its position:\n{format_table(ring, _describe_positions(states))}",
            remedy=f"Restore a backup: `strongroom cluster restore {ring.cluster.name} --backup ID`.",
        )
    source = _choose(ring, known, first, force)
    uuid = known[source.id].uuid
    replaced = [node for node in reached if not _can_follow(known.get(node.id), known[source.id])]
    if len(reached) < len(ring.nodes) and not ring.cluster.is_adopted:
        await _begin_epoch(ring, [node for node in reached if node not in replaced], reports)
    if _same_view(ring, reports, known) and first is None:
        await ring.report("start all nodes", status())
        await call_nodes(ring.nodes, lambda node: ring.agent(node).start_server(node.id, Start(wait=False)))
        for node in ring.nodes:
            await ring.wait_synced(node, uuid)
        return {
            "positions": positions,
            "began": None,
            "how": "all nodes had the same last view and formed the cluster again",
            "uuid": uuid,
        }
    await ring.start(source, Start(mode="bootstrap", position=str(known[source.id])), uuid, status)
    await _join(ring, [node for node in reached if node.id != source.id], replaced, uuid, status)
    why = f"{node_name(source)} was {'the most advanced' if first is None else 'named'} and bootstrapped"
    return {"positions": positions, "began": node_name(source), "how": why, "uuid": uuid}


async def _stop(ring: Ring, nodes: Sequence[Instance], status: Callable[[], str], *, force: bool) -> None:
    """Stop the nodes and prove it: no node may bootstrap while another serves. With ``force``, a hanging node is killed."""
    try:
        await ring.stop(nodes, status, kill=force)
    except ServerFailed as error:
        kill = "kill its process on its host, then recover the cluster again"
        if not force:
            kill = f"kill it with `strongroom cluster recover {ring.cluster.name} --force`"
        raise ServerFailed(error.message, remedy=f"{error.remedy} If it hangs, {kill}.".strip()) from error


async def _stop_hung(ring: Ring, nodes: Sequence[Instance], reports: dict[str, GaleraView], status: Callable[[], str]) -> None:
    """Stop running nodes that do not answer and do not receive data: they cannot join."""
    for node in nodes:
        view = reports[node.id]
        if view.running and not (view.answers or view.receiving or view.refuses):
            await _stop(ring, [node], status, force=True)


def _find_closed(ring: Ring, reports: dict[str, GaleraView]) -> Conflict | None:
    """The error for nodes that refuse the login. They may serve; to bootstrap without them would split the cluster."""
    closed = {key: view for key, view in reports.items() if view.refuses}
    if not closed:
        return None
    return Conflict(
        f"{', '.join(node_name(ring.node(key)) for key in closed)} of cluster {ring.cluster.name} refuses the login and may "
        f"serve: {next(iter(closed.values())).refuses}",
        remedy="Allow Strongroom to log in, then recover again; or stop all nodes and bootstrap the cluster with --force.",
    )


async def _begin_epoch(ring: Ring, nodes: Sequence[Instance], reports: dict[str, GaleraView]) -> None:
    """Give the reachable nodes a new epoch, so that an unreachable node never joins them with its own data later.

    Its newer transactions are lost. With the same epoch, Galera would accept it once the others have reached its position.
    """

    def choose() -> int:
        with ring.site.catalog.read() as session:
            return next_epoch(session, ring.cluster)

    def keep() -> None:
        with ring.site.catalog.write() as session:
            cluster = session.get(Cluster, ring.cluster.id)
            assert cluster is not None
            cluster.epoch = epoch

    epoch = max(await asyncio.to_thread(choose), *(reports[node.id].data_epoch or 0 for node in nodes))
    await call_nodes(nodes, lambda node: ring.agent(node).advance_epoch(node.id, ring.member(node, epoch)))
    await asyncio.to_thread(keep)  # after that: a node with an older epoch than its cluster counts as one that missed a restore
    ring.cluster.epoch = epoch


def _can_follow(state: GaleraPosition | None, first: GaleraPosition) -> bool:
    """Whether a node can join with its data. One that is ahead of the first cannot: its history would go backwards."""
    return state is not None and state.uuid == first.uuid and state.seqno <= first.seqno


async def _join(
    ring: Ring, nodes: Sequence[Instance], replaced: Sequence[Instance], uuid: str, status: Callable[[], str]
) -> None:
    """Let the nodes join one at a time, even if one fails; those in ``replaced`` join without data.

    When all were tried, raises the first error, preferably one of a reachable node.
    """
    failures: list[StrongroomError] = []
    for node in nodes:
        try:
            if node in replaced:
                await _keep_data(ring, node)
            await ring.start(node, Start(), uuid, status)
        except StrongroomError as error:
            failures.append(error)
    if failures:
        raise choose_error(failures)


def _missed_a_restore(ring: Ring, view: GaleraView) -> bool:
    return not ring.cluster.is_adopted and view.data_epoch is not None and view.data_epoch < ring.cluster.epoch


def _is_of_another(view: GaleraView, uuid: str) -> bool:
    """Whether it has data of another history, which a state transfer would overwrite."""
    return view.uuid not in (None, NO_UUID, uuid)


async def _keep_data(ring: Ring, node: Instance) -> None:
    """Keep the data of a node as previous data, so that a state transfer does not overwrite it."""
    await ring.enroll([node], ring.cluster.epoch)
    await ring.stop([node])
    await ring.record_view(await call_node(node, ring.agent(node).swap(node.id, ring.job.id, start=False, empty=True)))


async def _wait_settled(ring: Ring, status: Callable[[], str]) -> dict[str, GaleraView | StrongroomError]:
    """The views of the nodes. Nodes that crashed together and were all restarted may be forming their cluster again: wait."""
    await ring.report("query the nodes", status())
    patience = SETTLE_PATIENCE
    while True:
        views = await ring.views()
        reports = [view for view in views.values() if isinstance(view, GaleraView)]
        is_forming = all(view.running and view.view for view in reports) and len({view.view_id for view in reports}) == 1
        if patience <= 0 or not is_forming or len(reports) < len(views) or all(view.synced for view in reports):
            return views
        patience -= LOOK
        await asyncio.sleep(LOOK)


def _refuse_silent(ring: Ring, views: dict[str, GaleraView | StrongroomError], force: bool) -> None:
    silent = {key: error for key, error in views.items() if isinstance(error, StrongroomError)}
    if silent and (not force or len(silent) == len(views)):
        states = {key: view.message if isinstance(view, StrongroomError) else describe_state(view) for key, view in views.items()}
        raise Conflict(
            f"{', '.join(node_name(ring.node(key)) for key in silent)} of cluster {ring.cluster.name} is unreachable and may "
            f"have newer transactions:\n{format_table(ring, states)}",
            remedy="Make its host reachable, or recover without it with --force; then its newer transactions are lost.",
        )


async def _read_positions(ring: Ring, nodes: list[Instance], status: Callable[[], str]) -> dict[str, GaleraPosition | None]:
    await ring.report("read the positions of the nodes", status())

    async def read(node: Instance) -> GaleraPosition | None:
        try:
            return await ring.agent(node).galera_position(node.id)
        except Conflict:
            return None  # it has no data

    return await call_nodes(nodes, read)


def _describe_position(state: GaleraPosition | None) -> str:
    return "no data" if state is None else str(state)


def _describe_positions(states: dict[str, GaleraPosition | None]) -> dict[str, str]:
    return {key: _describe_position(state) for key, state in states.items()}


def _one_history(ring: Ring, uuids: dict[str, str]) -> str:
    if len(set(uuids.values())) > 1:
        raise Conflict(
            f"nodes of cluster {ring.cluster.name} serve different histories:\n{format_table(ring, uuids)}",
            remedy="Stop the nodes whose data you do not want (it is kept), and recover again.",
        )
    return next(iter(uuids.values()))


def _choose(ring: Ring, known: dict[str, GaleraPosition], first: Instance | None, force: bool) -> Instance:
    """The node that bootstraps. Raises Conflict."""
    positions = format_table(ring, known)
    if len({state.uuid for state in known.values()}) > 1 and not (force and first):
        raise Conflict(
            f"nodes of cluster {ring.cluster.name} have different histories:\n{positions}",
            remedy="Choose the right one with --node NODE --force; the data of the others is kept as previous data.",
        )
    if first is None:
        return max((node for node in ring.nodes if node.id in known), key=lambda node: known[node.id].seqno)
    if first.id not in known:
        raise Conflict(
            f"{node_name(first)} does not know its position:\n{positions}", remedy="Omit --node, or name another node."
        )
    if known[first.id].seqno < max(state.seqno for state in known.values()) and not force:
        raise Conflict(
            f"{node_name(first)} is not the most advanced node; newer transactions of others would be lost:\n{positions}",
            remedy="Omit --node, or add --force.",
        )
    return first


def _same_view(ring: Ring, reports: dict[str, GaleraView], known: dict[str, GaleraPosition]) -> bool:
    """Whether the last view of every node was the same primary view of all nodes."""
    views = [reports[node.id] for node in ring.nodes if node.id in reports and node.id in known]
    return (
        len(views) == len(ring.nodes)
        and len({state.uuid for state in known.values()}) == 1
        and len({view.view_id for view in views}) == 1
        and all(view.view is not None and len(view.view) == len(ring.nodes) for view in views)
    )
