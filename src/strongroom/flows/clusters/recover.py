"""Bring a cluster back that is down: which node knows most, who begins, who joins. Data is never deleted by it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from strongroom.agent.models import Start
from strongroom.catalog import Cluster, Instance
from strongroom.datastores import NO_UUID, GaleraPosition, GaleraView
from strongroom.errors import Conflict, ServerFailed, StrongroomError
from strongroom.flows.clusters.nodes import LOOK, Ring, decisive, how, name, next_epoch, of, side_by_side, table

SETTLES = 15.0
"""Seconds that nodes which were started after a power cut get to find each other by themselves."""


async def bring_up(
    ring: Ring, *, first: Instance | None = None, force: bool = False, said: Callable[[], str] = lambda: ""
) -> dict[str, Any]:
    """Make every node Synced. What was found and done: ``positions`` by node, ``began`` with, and ``how``.

    Where a part serves, the others join it. Otherwise all are stopped and asked for their positions. When every node has the
    same last view of the cluster, as after a power cut, they find each other without anybody's word; else the node that is
    farthest (or ``first``) bootstraps, and the others join one at a time. Raises Conflict, unless ``force``, when a node cannot
    be asked (it may know more), or when nodes are of different histories. A node that was left out is named in a warning.
    """
    views = await _settled(ring, said)
    found = await _bring_up(ring, views, first, force, said)
    for node in ring.nodes:
        if isinstance(error := views[node.id], StrongroomError):
            await ring.warn(f"{name(node)} was left out, because it could not be asked: {error.message}")
    return found


async def _bring_up(
    ring: Ring,
    views: dict[str, GaleraView | StrongroomError],
    first: Instance | None,
    force: bool,
    said: Callable[[], str],
) -> dict[str, Any]:
    seen = {key: view for key, view in views.items() if isinstance(view, GaleraView)}
    reached = [node for node in ring.nodes if node.id in seen]
    serving = [node for node in reached if seen[node.id].synced and not _missed_a_restore(ring, seen[node.id])]
    if not serving:
        _refuse_silent(ring, views, force)
        if (closed := _closed(ring, seen)) and not force:
            raise closed
    else:
        uuid = _one_history(ring, {node.id: seen[node.id].uuid or "" for node in serving})
        others = [node for node in reached if node not in serving]
        strangers = [node for node in others if _missed_a_restore(ring, seen[node.id]) or _is_of_another(seen[node.id], uuid)]
        if force:
            await _stop_hung(ring, others, seen, said)
        await _join(ring, [node for node in others if not seen[node.id].refuses], strangers, uuid, said)
        if closed := _closed(ring, {node.id: seen[node.id] for node in others}):
            raise closed
        positions = {name(node): f"{seen[node.id].uuid}:{seen[node.id].seqno}" for node in reached}
        return {"positions": positions, "began": None, "how": f"{name(serving[0])} served; the others joined it", "uuid": uuid}
    await _stop(ring, reached, said, force=force)  # also those that do not run: their agents may be about to start them again
    states = await _positions(ring, reached, said)
    views = await ring.views(reached)  # a stop ends what they knew of their last view
    seen |= {key: view for key, view in views.items() if isinstance(view, GaleraView)}
    positions = {name(node): _told(states.get(node.id)) for node in reached}
    known = {
        key: state
        for key, state in states.items()
        if state is not None and state.known and not _missed_a_restore(ring, seen[key])
    }
    if not known:
        raise Conflict(
            f"no node of cluster {ring.cluster.name} knows where it was:\n{table(ring, _tell(states))}",
            remedy=f"Restore a backup: strongroom cluster restore {ring.cluster.name} --backup ID",
        )
    chosen = _choose(ring, known, first, force)
    uuid = known[chosen.id].uuid
    strangers = [node for node in reached if not _can_follow(known.get(node.id), known[chosen.id])]
    if len(reached) < len(ring.nodes) and not ring.cluster.is_adopted:
        await _begin_epoch(ring, [node for node in reached if node not in strangers], seen)
    if _same_view(ring, seen, known) and first is None:
        await ring.tell("start all nodes", said())
        await side_by_side(ring.nodes, lambda node: ring.agent(node).start_server(node.id, Start(wait=False)))
        for node in ring.nodes:
            await ring.synced(node, uuid)
        return {
            "positions": positions,
            "began": None,
            "how": "all had the same last view and found each other again",
            "uuid": uuid,
        }
    await ring.start(chosen, Start(mode="bootstrap", position=str(known[chosen.id])), uuid, said)
    await _join(ring, [node for node in reached if node.id != chosen.id], strangers, uuid, said)
    why = f"{name(chosen)} was {'farthest' if first is None else 'named'} and bootstrapped"
    return {"positions": positions, "began": name(chosen), "how": why, "uuid": uuid}


async def _stop(ring: Ring, nodes: Sequence[Instance], said: Callable[[], str], *, force: bool) -> None:
    """Stop the nodes and prove it: nobody begins while another may serve. With ``force`` one that hangs is killed."""
    try:
        await ring.stop(nodes, said, kill=force)
    except ServerFailed as error:
        kill = "kill its process on its host, then recover again"
        if not force:
            kill = f"have it killed: `strongroom cluster recover {ring.cluster.name} --force`"
        raise ServerFailed(error.message, remedy=f"{error.remedy} If it hangs, {kill}.".strip()) from error


async def _stop_hung(ring: Ring, nodes: Sequence[Instance], seen: dict[str, GaleraView], said: Callable[[], str]) -> None:
    """Stop nodes that do not answer though nobody sends them data: they cannot join as they are."""
    for node in nodes:
        view = seen[node.id]
        if view.running and not (view.answers or view.receiving or view.refuses):
            await _stop(ring, [node], said, force=True)


def _closed(ring: Ring, seen: dict[str, GaleraView]) -> Conflict | None:
    """Nodes that refuse us may serve: to begin without them would split the cluster."""
    closed = {key: view for key, view in seen.items() if view.refuses}
    if not closed:
        return None
    return Conflict(
        f"{', '.join(name(ring.node(key)) for key in closed)} of cluster {ring.cluster.name} cannot be asked, and may serve: "
        f"{next(iter(closed.values())).refuses}",
        remedy="Let Strongroom log in there, then recover again; or stop all nodes and begin anew, with --force.",
    )


async def _begin_epoch(ring: Ring, nodes: Sequence[Instance], seen: dict[str, GaleraView]) -> None:
    """The nodes that were reached go on in a new epoch: one that was not, and comes back, never joins them with its own data.

    What only it has was given up. With the same epoch, Galera would take it in once the others have come as far as it was.
    """

    def choose() -> int:
        with ring.site.catalog.read() as session:
            return next_epoch(session, ring.cluster)

    def keep() -> None:
        with ring.site.catalog.write() as session:
            cluster = session.get(Cluster, ring.cluster.id)
            assert cluster is not None
            cluster.epoch = epoch

    epoch = max(await asyncio.to_thread(choose), *(seen[node.id].data_epoch or 0 for node in nodes))
    await side_by_side(nodes, lambda node: ring.agent(node).advance_epoch(node.id, ring.member(node, epoch)))
    await asyncio.to_thread(keep)  # afterwards: a node of an earlier epoch than its cluster's counts as one that missed a restore
    ring.cluster.epoch = epoch


def _can_follow(state: GaleraPosition | None, first: GaleraPosition) -> bool:
    """Whether a node can join with what it has. One that is ahead of the first cannot: its history would run backwards."""
    return state is not None and state.uuid == first.uuid and state.seqno <= first.seqno


async def _join(ring: Ring, nodes: Sequence[Instance], strangers: Sequence[Instance], uuid: str, said: Callable[[], str]) -> None:
    """Let the nodes join, one at a time; strangers empty. One that does not come up keeps none of the others from it.

    Raises what the first of those said that answered, when all were tried.
    """
    failures: list[StrongroomError] = []
    for node in nodes:
        try:
            if node in strangers:
                await _put_aside(ring, node)
            await ring.start(node, Start(), uuid, said)
        except StrongroomError as error:
            failures.append(error)
    if failures:
        raise decisive(failures)


def _missed_a_restore(ring: Ring, view: GaleraView) -> bool:
    return not ring.cluster.is_adopted and view.data_epoch is not None and view.data_epoch < ring.cluster.epoch


def _is_of_another(view: GaleraView, uuid: str) -> bool:
    """Whether it has data of another history, which a transfer of that of the others would overwrite."""
    return view.uuid not in (None, NO_UUID, uuid)


async def _put_aside(ring: Ring, node: Instance) -> None:
    """The data of a node that gets that of the others is kept, not overwritten."""
    await ring.enroll([node], ring.cluster.epoch)
    await ring.stop([node])
    await ring.see(await of(node, ring.agent(node).swap(node.id, ring.job.id, start=False, empty=True)))


async def _settled(ring: Ring, said: Callable[[], str]) -> dict[str, GaleraView | StrongroomError]:
    """The nodes as they are. Those that died together, and were all started again, may be finding each other just now."""
    await ring.tell("look at the nodes", said())
    patience = SETTLES
    while True:
        views = await ring.views()
        seen = [view for view in views.values() if isinstance(view, GaleraView)]
        finding = all(view.running and view.view for view in seen) and len({view.view_id for view in seen}) == 1
        if patience <= 0 or not finding or len(seen) < len(views) or all(view.synced for view in seen):
            return views
        patience -= LOOK
        await asyncio.sleep(LOOK)


def _refuse_silent(ring: Ring, views: dict[str, GaleraView | StrongroomError], force: bool) -> None:
    silent = {key: error for key, error in views.items() if isinstance(error, StrongroomError)}
    if silent and (not force or len(silent) == len(views)):
        said = {key: view.message if isinstance(view, StrongroomError) else how(view) for key, view in views.items()}
        raise Conflict(
            f"{', '.join(name(ring.node(key)) for key in silent)} of cluster {ring.cluster.name} cannot be asked, and may know "
            f"more than the others:\n{table(ring, said)}",
            remedy="Bring its host back; or go on without it, with --force, and what only it knows is lost.",
        )


async def _positions(ring: Ring, nodes: list[Instance], said: Callable[[], str]) -> dict[str, GaleraPosition | None]:
    await ring.tell("ask the nodes for their positions", said())

    async def ask(node: Instance) -> GaleraPosition | None:
        try:
            return await ring.agent(node).galera_position(node.id)
        except Conflict:
            return None  # it has no data

    return await side_by_side(nodes, ask)


def _told(state: GaleraPosition | None) -> str:
    return "no data" if state is None else str(state)


def _tell(states: dict[str, GaleraPosition | None]) -> dict[str, str]:
    return {key: _told(state) for key, state in states.items()}


def _one_history(ring: Ring, uuids: dict[str, str]) -> str:
    if len(set(uuids.values())) > 1:
        raise Conflict(
            f"nodes of cluster {ring.cluster.name} serve different histories:\n{table(ring, uuids)}",
            remedy="Stop those whose data is not wanted (their data stays), and recover again.",
        )
    return next(iter(uuids.values()))


def _choose(ring: Ring, known: dict[str, GaleraPosition], first: Instance | None, force: bool) -> Instance:
    """Who begins. Raises Conflict."""
    said = table(ring, known)
    if len({state.uuid for state in known.values()}) > 1 and not (force and first):
        raise Conflict(
            f"nodes of cluster {ring.cluster.name} are of different histories:\n{said}",
            remedy="Say which one is right with --node NODE --force; the data of the others is put aside.",
        )
    if first is None:
        return max((node for node in ring.nodes if node.id in known), key=lambda node: known[node.id].seqno)
    if first.id not in known:
        raise Conflict(f"{name(first)} does not know where it was:\n{said}", remedy="Leave --node out, or name another.")
    if known[first.id].seqno < max(state.seqno for state in known.values()) and not force:
        raise Conflict(
            f"{name(first)} is not the farthest; what others know beyond it would be lost:\n{said}",
            remedy="Leave --node out, or say --force.",
        )
    return first


def _same_view(ring: Ring, seen: dict[str, GaleraView], known: dict[str, GaleraPosition]) -> bool:
    """Every node was in the same last primary view, of all nodes, when it died."""
    views = [seen[node.id] for node in ring.nodes if node.id in seen and node.id in known]
    return (
        len(views) == len(ring.nodes)
        and len({state.uuid for state in known.values()}) == 1
        and len({view.view_id for view in views}) == 1
        and all(view.view is not None and len(view.view) == len(ring.nodes) for view in views)
    )
