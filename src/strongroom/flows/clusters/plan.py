"""The plan of a restore of a cluster: which nodes, by which method, what is lost."""

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
from strongroom.flows.clusters.nodes import name as node_name
from strongroom.flows.clusters.nodes import nodes_named
from strongroom.flows.hosts.placement import volume_for
from strongroom.flows.site import Site

Method = Literal["seed", "sst"]


def plan_cluster_restore(
    site: Site, project: str, cluster: str, backup: str, *, method: Method | None = None, without: Sequence[str] = ()
) -> dict[str, Any]:
    """What a restore would do; nothing is begun. Raises what the restore itself would."""
    require_source(site, project, backup)
    with site.catalog.read() as session:
        row = find_cluster(session, project, cluster)
        source = find_backup(session, project, backup)
        return make_plan(session, row, source, method, without)


def make_plan(
    session: Session, cluster: Cluster, source: Backup, method: Method | None, without: Sequence[str]
) -> dict[str, Any]:
    refuse_unless_restorable(session, source)
    if (source.datastore, source.series) != (cluster.datastore, cluster.series):
        raise InvalidRequest(
            f"backup {source.name} ({source.id}) is of {source.datastore} {source.series}; cluster {cluster.name} is "
            f"{cluster.datastore} {cluster.series}",
            remedy="Restore it where its own version is.",
        )
    left_out = {node.id for node in nodes_named(session, cluster, list(without))}
    nodes = [node for node in nodes_of(session, cluster.id) if node.id not in left_out]
    if not nodes:
        raise InvalidRequest("no node is left to restore to", remedy="Leave fewer out.")
    _refuse_silent(session, cluster, nodes)
    if not cluster.is_adopted:
        for node in nodes:
            volume_for(source, node.volume_size)
    chosen, why = _method(nodes, method)
    return {
        "backup": source.id,
        "backup_name": source.name,
        "chain": [link.id for link in chain_of(session, source)],
        "taken": source.finished.isoformat(timespec="seconds") if source.finished else None,
        "data_bytes": source.data_size,
        "method": chosen,
        "why": why,
        "nodes": [
            {
                "id": node.id,
                "node": node_name(node),
                "host": node.host,
                "does": "bootstraps" if number == 0 else "joins",
                "data": "from the backup" if chosen == "seed" or number == 0 else "from the other nodes",
            }
            for number, node in enumerate(nodes)
        ],
        "left_out": sorted(left_out),
        "old_data": "is put aside on every node, until `cluster discard-old`",
    }


def _refuse_silent(session: Session, cluster: Cluster, nodes: Sequence[Instance]) -> None:
    silent = silent_hosts(session)
    away = [node for node in nodes if node.host in silent]
    if away:
        said = ", ".join(f"{node_name(node)} on host {node.host}" for node in away)
        leave_out = " ".join(f"--without {node_name(node)}" for node in away)
        raise Conflict(
            f"cluster {cluster.name} ({cluster.id}) cannot be restored as a whole: {said}, which is silent",
            remedy=f"Bring the host back; or restore the other nodes: {leave_out}. What is left out never serves its old data.",
        )


def _method(nodes: Sequence[Instance], asked: Method | None) -> tuple[Method, str]:
    numbers = sorted({node.version_number for node in nodes})
    if asked == "sst":
        return "sst", "as asked: one node gets the backup, the others have it sent one after the other"
    if asked is None and len(numbers) > 1:
        return "sst", f"one node gets the backup and sends it to the others, for their versions differ: {', '.join(numbers)}"
    return "seed", "every node gets the backup at the same time, and joins without a transfer"
