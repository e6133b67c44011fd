"""Checks that the nodes form one cluster with the same data, while clients write. Differing tables are compared again."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Collection, Mapping
from typing import TypeVar

from strongroom.catalog import Instance
from strongroom.datastores import TableSums
from strongroom.errors import JobError
from strongroom.flows.clusters.nodes import Ring, call_node, call_nodes, node_name

T = TypeVar("T")
ROUNDS = 12
"""How often differing tables are compared again."""
MIN_DIFFERENCES = 2
"""Rounds at one position in which a table must differ: a node counts a transaction shortly before it makes it visible."""
MIN_UNCHANGED = 5
"""Consecutive rounds in which a differing table must not change on any node until it counts as not being written. A table that
clients switch between a few states may look unchanged in fewer rounds."""
LOOK = 1.0
"""Seconds between two checks whether the host of a node that reads its tables is lost."""
RATE_SECONDS = 0.2
"""Seconds for which the rate of writes is measured."""
LEAD_SECONDS = 0.3
"""Seconds until all nodes know the position at which to compare."""


async def compare_nodes(ring: Ring, nodes: list[Instance], uuid: str, mark: str) -> int:
    """Check the nodes and return the number of compared tables.

    All nodes are Synced in one history, words written on each node can be read on the others, and all tables are equal. Raises
    JobError.
    """
    await ring.report("check", "reading test words on every node and comparing the checksums of all tables")
    words = {node.id: f"{mark}.{node_name(node)}" for node in nodes}
    for node in nodes:
        view = await ring.wait_synced(node, uuid)
        if view.size != len(nodes):
            raise JobError(f"{node_name(node)} sees {view.size} nodes instead of {len(nodes)}")
        await call_node(node, ring.agent(node).write_canary(node.id, words[node.id]))
    read = await call_nodes(nodes, lambda node: ring.agent(node).canaries(node.id))
    for node in nodes:
        if missing := set(words.values()) - set(read[node.id]):
            raise JobError(f"{node_name(node)} does not have the test words {', '.join(sorted(missing))} of the other nodes")
    first, *_ = nodes
    await call_node(first, ring.agent(first).drop_canaries(first.id))
    return await _compare_tables(ring, nodes)


async def _compare_tables(ring: Ring, nodes: list[Instance]) -> int:
    """The number of compared tables. Raises JobError if one is not the same on all nodes.

    First, each node reads all its tables. Clients may write to a table meanwhile, so differing tables are read again, from
    snapshots that all nodes take after the same transaction. If the nodes miss that moment, a differing table counts as
    different if it does not change on any node for some rounds. A warning names tables that are written all the time. A table
    that clients create, alter or drop meanwhile may be missing or unreadable on some nodes; that alone proves nothing.
    """
    found = await _read(ring, nodes)
    total = len(_tables(found))
    suspects = {table for table in _tables(found) if not _agree(found, table)}
    differences: Counter[str] = Counter()
    unchanged: Counter[str] = Counter()
    for _ in range(ROUNDS):
        if not suspects:
            return total
        before, found = found, await _read(ring, nodes, suspects, await _next_position(ring, nodes))
        suspects = {table for table in suspects if not _agree(found, table)}
        if _at_one_position(found):
            differences.update(table for table in suspects if all(_has_content(_sum(each, table)) for each in found.values()))
        for table in suspects:
            unchanged[table] = unchanged[table] + 1 if _is_unchanged(before, found, table) else 0
        if wrong := sorted(
            table for table in suspects if differences[table] >= MIN_DIFFERENCES or unchanged[table] >= MIN_UNCHANGED
        ):
            others = [node for node in nodes[1:] if any(not _agree(_pair(found, nodes[0], node), table) for table in wrong)]
            raise JobError(
                f"{len(wrong)} tables are not the same on {node_name(nodes[0])} and {', '.join(map(node_name, others))}: "
                f"{', '.join(wrong[:5])}",
                remedy="The nodes are not consistent: restore again with --method sst.",
            )
    if suspects:
        some = ", ".join(sorted(suspects)[:5])
        await ring.add_warning(
            f"{len(suspects)} of {total} tables could not be compared, because clients wrote to them or altered them all the "
            f"time: {some}. All other tables are the same on all nodes."
        )
    return total


async def _read(
    ring: Ring, nodes: list[Instance], tables: Collection[str] | None = None, at: int | None = None
) -> dict[str, TableSums]:
    wanted = None if tables is None else sorted(tables)

    async def read(node: Instance) -> TableSums:
        return await _call_while_present(ring, node, ring.agent(node).checksums(node.id, tables=wanted, at=at))

    return await call_nodes(nodes, read)


async def _call_while_present(ring: Ring, node: Instance, call: Awaitable[T]) -> T:
    """Wait for the call without a time limit. Raises HostSilent when the host of the node is lost meanwhile."""
    work = asyncio.ensure_future(call)
    try:
        while not (await asyncio.wait({work}, timeout=LOOK))[0]:
            ring.site.agents.presence.require(node.host)
        return work.result()
    finally:
        work.cancel()


async def _next_position(ring: Ring, nodes: list[Instance]) -> int:
    """The expected position of the cluster when all nodes know this position."""
    first = await _read_position(ring, nodes)
    await asyncio.sleep(RATE_SECONDS)
    second = await _read_position(ring, nodes)
    return second + math.ceil((second - first) / RATE_SECONDS * LEAD_SECONDS)


async def _read_position(ring: Ring, nodes: list[Instance]) -> int:
    views = await call_nodes(nodes, lambda node: ring.agent(node).galera(node.id))
    return max(view.seqno or 0 for view in views.values())


def _tables(found: Mapping[str, TableSums]) -> set[str]:
    return {table for each in found.values() for table in each.sums}


def _sum(sums: TableSums, table: str) -> str | None:
    return sums.sums.get(table)


def _agree(found: Mapping[str, TableSums], table: str) -> bool:
    sums = {_sum(each, table) for each in found.values()}
    return len(sums) == 1 and not any(_is_error(each) for each in sums)


def _is_unchanged(before: Mapping[str, TableSums], found: Mapping[str, TableSums], table: str) -> bool:
    """Whether the table has not changed on any node since the previous round."""
    return all(_sum(before[key], table) == _sum(found[key], table) and not _is_error(_sum(found[key], table)) for key in found)


def _is_error(checksum: str | None) -> bool:
    """Whether the node failed to read the table."""
    return checksum is not None and checksum.startswith("error ")


def _has_content(checksum: str | None) -> bool:
    """Whether the node has the table and has read it."""
    return checksum not in (None, "None") and not _is_error(checksum)


def _pair(found: Mapping[str, TableSums], one: Instance, other: Instance) -> dict[str, TableSums]:
    return {node.id: found[node.id] for node in (one, other)}


def _at_one_position(found: Mapping[str, TableSums]) -> bool:
    positions = {each.seqno for each in found.values()}
    return len(positions) == 1 and None not in positions
