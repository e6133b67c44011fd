"""Backups of clusters: selects the node and the parent. A chain is of one node, because each node has its own positions."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Expiration, Instance, Job, quotas
from strongroom.catalog.find import find_cluster, nodes_of
from strongroom.catalog.queries import silent_hosts
from strongroom.errors import Busy, Conflict
from strongroom.flows.backups.chains import ChainLimit, newest_parent
from strongroom.flows.backups.options import BackupOptions
from strongroom.flows.clusters.busy import refuse_if_cut_off, refuse_if_working
from strongroom.flows.clusters.nodes import node_name, nodes_named
from strongroom.flows.hosts.fresh import refresh_nodes
from strongroom.flows.jobs import new_job
from strongroom.flows.kinds.backup import new_backup
from strongroom.flows.site import Site

SYNC_PATIENCE = 15.0
"""Maximum number of seconds to wait for the selected node to become Synced."""
POLL_PAUSE = 0.2
TEMPORARY_STATES = ("Donor/Desynced", "Joined")
"""States of a serving node that becomes Synced without an intervention."""


def request_cluster_backup(site: Site, project: str, cluster: str, options: BackupOptions) -> tuple[Backup, Job]:
    """Take a backup of one Synced node: for an incremental the node of the chain, otherwise the one with the fewest writes.

    If an incremental has no usable parent, a full is taken, with the reason. Without any completed backup, an incremental is
    refused. Raises NotFound, Conflict, Busy, InvalidRequest, QuotaExceeded.
    """
    options.check()
    refresh_nodes(site, project, cluster, unless=is_synced)
    if options.node is not None or options.incremental:
        _await_synced(site, project, cluster, options.node)
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        backup, job = add_cluster_backup(session, site, row, options)
    site.start(job)
    return backup, job


def add_cluster_backup(session: Session, site: Site, row: Cluster, options: BackupOptions) -> tuple[Backup, Job]:
    """Add a backup of the cluster and its job, in the transaction of the caller, who starts the job. Raises as the request."""
    refuse_cluster_backup(session, site, row)
    nodes, synced = nodes_of(session, row.id), _list_synced(session, row)
    wanted = nodes_named(session, row, [options.node])[0] if options.node else None
    base, reason = _choose_parent(session, row, nodes, synced, wanted, options.limit) if options.incremental else (None, None)
    source = next(n for n in nodes if n.id == base.instance_id) if base else _choose_source(row, synced, wanted)
    backup = new_backup(session, site, source, base, options, reason)
    job = new_job(
        session,
        row.project,
        "backup",
        instance=source,
        cluster=row,
        backup=backup,
        scheduled=options.scheduled,
        fall_back_to_full=True,
        desync=options.desync,
    )
    return backup, job


def refuse_cluster_backup(session: Session, site: Site, row: Cluster) -> None:
    """Raise Busy, Conflict or QuotaExceeded if no backup of the cluster can be taken now, whatever its nodes do."""
    refuse_if_working(session, row, "take a backup")
    if row.task is not None:
        raise Busy(f"cluster {row.name} ({row.id}) is in {row.task}; cannot take a backup now")
    refuse_if_cut_off(session, row, unless_waiting=True)
    quotas.require(session, row.project, site.settings, {"backups": 1})


def refuse_full_backup(session: Session, site: Site, row: Cluster) -> None:
    """The same, also if no node is Synced."""
    refuse_cluster_backup(session, site, row)
    _choose_source(row, _list_synced(session, row), None)


def _list_synced(session: Session, cluster: Cluster) -> list[Instance]:
    silent = silent_hosts(session)
    return [node for node in nodes_of(session, cluster.id) if is_synced(node) and node.host not in silent]


def _await_synced(site: Site, project: str, cluster: str, wanted: str | None) -> None:
    """Wait for the node, by default that of the chain, if it has just sent its data to another node and is not Synced yet."""
    deadline = time.monotonic() + SYNC_PATIENCE
    while True:
        with site.catalog.read() as session:
            row = find_cluster(session, project, cluster)
            newest = None if wanted else newest_backup(session, row)
            chain_node = (node for node in nodes_of(session, row.id) if newest is not None and node.id == newest.instance_id)
            node = nodes_named(session, row, [wanted])[0] if wanted else next(chain_node, None)
        if node is None:
            return
        status = node.galera or {}
        is_temporary = (
            status.get("wsrep_cluster_status") == "Primary" and status.get("wsrep_local_state_comment") in TEMPORARY_STATES
        )
        if is_synced(node) or not is_temporary or time.monotonic() > deadline:
            return
        time.sleep(POLL_PAUSE)


def is_synced(node: Instance) -> bool:
    """Whether the node was Synced and serving when its agent last reported."""
    status = node.galera or {}
    return (
        node.state == "running"
        and status.get("wsrep_local_state_comment") == "Synced"
        and status.get("wsrep_cluster_status") == "Primary"
        and status.get("wsrep_ready") == "ON"
    )


def _commits(node: Instance) -> int:
    try:
        return int((node.galera or {}).get("wsrep_local_commits", 0))
    except ValueError:
        return 0


def _choose_source(cluster: Cluster, synced: Sequence[Instance], wanted: Instance | None) -> Instance:
    """The node to back up: the requested one, else the Synced one with the fewest commits; of several, the last."""
    if wanted is not None:
        if wanted not in synced:
            raise Conflict(f"{node_name(wanted)} of cluster {cluster.name} is not Synced", remedy="Omit --node.")
        return wanted
    if not synced:
        raise Conflict(
            f"no node of cluster {cluster.name} ({cluster.id}) is Synced",
            remedy=f"Recover it: `strongroom cluster recover {cluster.name}`.",
        )
    return min(reversed(synced), key=_commits)


def newest_backup(session: Session, cluster: Cluster) -> Backup | None:
    """The newest completed backup."""
    return session.scalars(
        select(Backup)
        .where(
            Backup.cluster_id == cluster.id,
            Backup.deleted.is_(None),
            Backup.status == "COMPLETED",
            Backup.id.not_in(select(Expiration.backup_id)),
        )
        .order_by(Backup.finished.desc(), Backup.created.desc())
        .limit(1)
    ).one_or_none()


def _choose_parent(
    session: Session,
    cluster: Cluster,
    nodes: Sequence[Instance],
    synced: Sequence[Instance],
    wanted: Instance | None,
    limit: ChainLimit,
) -> tuple[Backup | None, str | None]:
    """The parent of an incremental, or the reason why a full is taken. Raises Conflict if there is no completed backup."""
    newest = newest_backup(session, cluster)
    if newest is None:
        raise Conflict(
            f"cluster {cluster.name} ({cluster.id}) has no completed backup that could be the parent of an incremental",
            remedy=f"Take a full backup first: `strongroom cluster backup {cluster.name}`.",
        )
    chain_node = next((node for node in nodes if node.id == newest.instance_id), None)
    if chain_node is None:
        return None, f"a full was taken: the node of the newest backup ({newest.instance_name}) does not exist any more"
    if wanted is not None and wanted.id != chain_node.id:
        return None, f"a full was taken: the newest backup is of {node_name(chain_node)}, not of {node_name(wanted)}"
    if chain_node not in synced:
        return None, f"a full was taken of another node: {node_name(chain_node)}, which has the chain, is not Synced"
    base, reason = newest_parent(session, chain_node, limit)
    return base, reason.replace("of the instance", f"of {node_name(chain_node)}") if reason else None
