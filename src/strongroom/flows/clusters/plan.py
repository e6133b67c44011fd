"""The plan of a restore of a cluster: its nodes, its method and the data that is lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Instance
from strongroom.catalog.find import chain_of, find_backup, find_cluster, nodes_of
from strongroom.catalog.queries import silent_hosts
from strongroom.errors import Conflict, InvalidRequest
from strongroom.flows.backups.chains import refuse_unless_restorable
from strongroom.flows.backups.sources import require_source
from strongroom.flows.clusters.nodes import node_name, nodes_named
from strongroom.flows.hosts.placement import volume_for
from strongroom.flows.site import Site

Method = Literal["seed", "sst"]


def plan_cluster_restore(
    site: Site, project: str, cluster: str, backup: str, *, method: Method | None = None, without: Sequence[str] = ()
) -> dict[str, Any]:
    """What a restore would do; this changes nothing. Raises the errors of the restore itself."""
    require_source(site, project, backup)
    with site.catalog.read() as session:
        row = find_cluster(session, project, cluster)
        source = find_backup(session, project, backup)
        return make_plan(session, row, source, method, without)


def make_plan(
    session: Session, cluster: Cluster, source: Backup, method: Method | None, without: Sequence[str]
) -> dict[str, Any]:
    """The plan as JSON. Raises Conflict, InvalidRequest, NotFound, TooLarge."""
    refuse_unless_restorable(session, source)
    if (source.datastore, source.series) != (cluster.datastore, cluster.series):
        raise InvalidRequest(
            f"backup {source.name} ({source.id}) is of {source.datastore} {source.series}; cluster {cluster.name} is "
            f"{cluster.datastore} {cluster.series}",
            remedy=f"Restore it to a cluster of {source.datastore} {source.series}.",
        )
    left_out = {node.id for node in nodes_named(session, cluster, list(without))}
    nodes = [node for node in nodes_of(session, cluster.id) if node.id not in left_out]
    if not nodes:
        raise InvalidRequest("no node is left to restore to", remedy="Leave out fewer nodes.")
    _refuse_silent(session, cluster, nodes)
    if not cluster.is_adopted:
        for node in nodes:
            volume_for(source, node.volume_size)
    selected, why = _choose_method(nodes, method)
    return {
        "backup": source.id,
        "backup_name": source.name,
        "chain": [link.id for link in chain_of(session, source)],
        "taken": source.finished.isoformat(timespec="seconds") if source.finished else None,
        "data_bytes": source.data_size,
        "method": selected,
        "why": why,
        "nodes": [
            {
                "id": node.id,
                "node": node_name(node),
                "host": node.host,
                "does": "bootstraps" if number == 0 else "joins",
                "data": "from the backup" if selected == "seed" or number == 0 else "from the other nodes",
            }
            for number, node in enumerate(nodes)
        ],
        "left_out": sorted(left_out),
        "old_data": "is kept on every node until `cluster discard-old`",
    }


def _refuse_silent(session: Session, cluster: Cluster, nodes: Sequence[Instance]) -> None:
    silent = silent_hosts(session)
    unreachable = [node for node in nodes if node.host in silent]
    if unreachable:
        names = ", ".join(f"{node_name(node)} on host {node.host}" for node in unreachable)
        options = " ".join(f"--without {node_name(node)}" for node in unreachable)
        raise Conflict(
            f"cluster {cluster.name} ({cluster.id}) has unreachable nodes: {names}",
            remedy=f"Make them reachable, or restore without them: {options}. They will never serve their previous data.",
        )


def _choose_method(nodes: Sequence[Instance], requested: Method | None) -> tuple[Method, str]:
    """The method, with its description for users."""
    versions = sorted({node.version_number for node in nodes})
    if requested == "sst":
        return "sst", "as requested, one node restores the backup and sends its data to the others, one at a time"
    if requested is None and len(versions) > 1:
        return "sst", f"one node restores the backup and sends its data to the others, as versions differ: {', '.join(versions)}"
    return "seed", "all nodes restore the backup at the same time, and join without a transfer"
