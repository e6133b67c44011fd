"""Is a cluster one, with the same data on all nodes, while clients write? What differs is compared again, at one position."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Collection, Mapping
from typing import TypeVar

from strongroom.catalog import Instance
from strongroom.datastores import TableSums
from strongroom.errors import JobError
from strongroom.flows.clusters.nodes import Ring, name, of, side_by_side

T = TypeVar("T")
ROUNDS = 12
"""How often tables that differ are compared again."""
CERTAIN = 2
"""Rounds at one position in which a table differs before it is believed: a node counts a transaction just before it shows it."""
RESTED = 5
"""Times in a row that a table which differs has on each node the content of the round before until it is believed to be at rest:
one that clients switch between few states looks so now and then."""
LOOK = 1.0
"""Seconds between two looks whether the host of a node that reads its tables is lost."""
SPAN = 0.2
"""Seconds in which it is measured how fast clients write."""
AHEAD = 0.3
"""Seconds until all nodes have been told which position is meant."""


async def compare_nodes(ring: Ring, nodes: list[Instance], uuid: str, mark: str) -> int:
    """All are Synced in one history, words written through each are read on the others, and their tables are equal: how many.

    Raises JobError.
    """
    await ring.tell("check", "words written on each node are read on the others; checksums of all tables are compared")
    words = {node.id: f"{mark}.{name(node)}" for node in nodes}
    for node in nodes:
        view = await ring.synced(node, uuid)
        if view.size != len(nodes):
            raise JobError(f"{name(node)} sees {view.size} nodes instead of {len(nodes)}")
        await of(node, ring.agent(node).write_canary(node.id, words[node.id]))
    read = await side_by_side(nodes, lambda node: ring.agent(node).canaries(node.id))
    for node in nodes:
        if missing := set(words.values()) - set(read[node.id]):
            raise JobError(f"{name(node)} does not read what was written as {', '.join(sorted(missing))}")
    first, *_ = nodes
    await of(first, ring.agent(first).drop_canaries(first.id))
    return await _compare_tables(ring, nodes)


async def _compare_tables(ring: Ring, nodes: list[Instance]) -> int:
    """How many tables were compared. Raises JobError when one is not the same on all nodes.

    First each node reads its tables one after the other. Between two nodes a table may be written meanwhile, so those that differ
    are read again, from snapshots that all nodes make after the same transaction. Where no such moment is met, a table that
    differs and does not change on any node for some rounds differs indeed; of one that is written all the time a warning tells.
    One that clients drop, make or alter just then is missing on some nodes, or cannot be read there: that alone proves nothing.
    """
    found = await _read(ring, nodes)
    total = len(_tables(found))
    suspects = {table for table in _tables(found) if not _agree(found, table)}
    certainty: Counter[str] = Counter()
    rested: Counter[str] = Counter()
    for _ in range(ROUNDS):
        if not suspects:
            return total
        before, found = found, await _read(ring, nodes, suspects, await _next_position(ring, nodes))
        suspects = {table for table in suspects if not _agree(found, table)}
        if _at_one_position(found):
            certainty.update(table for table in suspects if all(_has_content(_sum(each, table)) for each in found.values()))
        for table in suspects:
            rested[table] = rested[table] + 1 if _rests(before, found, table) else 0
        if wrong := sorted(table for table in suspects if certainty[table] >= CERTAIN or rested[table] >= RESTED):
            apart = [name(node) for node in nodes[1:] if any(not _agree(_pair(found, nodes[0], node), table) for table in wrong)]
            raise JobError(
                f"{len(wrong)} tables are not the same on {name(nodes[0])} and {', '.join(apart)}: {', '.join(wrong[:5])}",
                remedy="Do not trust it: restore again with --method sst.",
            )
    if suspects:
        some = ", ".join(sorted(suspects)[:5])
        await ring.warn(
            f"{len(suspects)} of {total} tables were written so often, or altered, that their content could not be compared: "
            f"{some}. All others are the same on all nodes."
        )
    return total


async def _read(
    ring: Ring, nodes: list[Instance], tables: Collection[str] | None = None, at: int | None = None
) -> dict[str, TableSums]:
    wanted = None if tables is None else sorted(tables)

    async def read(node: Instance) -> TableSums:
        return await _while_there(ring, node, ring.agent(node).checksums(node.id, tables=wanted, at=at))

    return await side_by_side(nodes, read)


async def _while_there(ring: Ring, node: Instance, call: Awaitable[T]) -> T:
    """What the call gives, however long it takes. Raises HostSilent when the host of the node is lost meanwhile."""
    work = asyncio.ensure_future(call)
    try:
        while not (await asyncio.wait({work}, timeout=LOOK))[0]:
            ring.site.agents.presence.require(node.host)
        return work.result()
    finally:
        work.cancel()


async def _next_position(ring: Ring, nodes: list[Instance]) -> int:
    """The transaction that the cluster will be at when all nodes have heard of it."""
    first = await _farthest(ring, nodes)
    await asyncio.sleep(SPAN)
    second = await _farthest(ring, nodes)
    return second + math.ceil((second - first) / SPAN * AHEAD)


async def _farthest(ring: Ring, nodes: list[Instance]) -> int:
    views = await side_by_side(nodes, lambda node: ring.agent(node).galera(node.id))
    return max(view.seqno or 0 for view in views.values())


def _tables(found: Mapping[str, TableSums]) -> set[str]:
    return {table for each in found.values() for table in each.sums}


def _sum(sums: TableSums, table: str) -> str | None:
    return sums.sums.get(table)


def _agree(found: Mapping[str, TableSums], table: str) -> bool:
    sums = {_sum(each, table) for each in found.values()}
    return len(sums) == 1 and not any(_is_error(each) for each in sums)


def _rests(before: Mapping[str, TableSums], found: Mapping[str, TableSums], table: str) -> bool:
    """Whether each node has what it had in the round before."""
    return all(_sum(before[key], table) == _sum(found[key], table) and not _is_error(_sum(found[key], table)) for key in found)


def _is_error(said: str | None) -> bool:
    """Whether the node could not read the table."""
    return said is not None and said.startswith("error ")


def _has_content(said: str | None) -> bool:
    """Whether the node has the table, and could read it."""
    return said not in (None, "None") and not _is_error(said)


def _pair(found: Mapping[str, TableSums], one: Instance, other: Instance) -> dict[str, TableSums]:
    return {node.id: found[node.id] for node in (one, other)}


def _at_one_position(found: Mapping[str, TableSums]) -> bool:
    positions = {each.seqno for each in found.values()}
    return len(positions) == 1 and None not in positions
