"""Backups of clusters: of which node, on which parent. A chain stays with one node, for positions are each node's own."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Expiration, Instance, Job, quotas
from strongroom.catalog.find import find_cluster, nodes_of
from strongroom.catalog.queries import silent_hosts
from strongroom.errors import Busy, Conflict
from strongroom.flows.backups.chains import ChainLimit, newest_parent, no_limit
from strongroom.flows.clusters.busy import refuse_if_cut_off, refuse_if_working
from strongroom.flows.clusters.nodes import name as node_name
from strongroom.flows.clusters.nodes import nodes_named
from strongroom.flows.jobs import Scheduled, new_job
from strongroom.flows.kinds.backup import new_backup
from strongroom.flows.records import check_container, check_name
from strongroom.flows.site import Site

SOON = 15.0
"""Seconds that a node which is named, and about to be Synced, is waited for."""
LOOK = 0.2
PASSING = ("Donor/Desynced", "Joined")
"""States of a node that serves, and is Synced again by itself."""


def request_cluster_backup(
    site: Site,
    project: str,
    cluster: str,
    *,
    name: str,
    description: str | None = None,
    container: str | None = None,
    incremental: bool = False,
    node: str | None = None,
    desync: bool = False,
) -> tuple[Backup, Job]:
    """Take a backup of one node that is Synced: the one with the chain for an incremental, else one that serves few writes.

    An incremental that cannot stand on anything is a full, with the reason; when nothing was ever backed up it is an error.
    Raises NotFound, Conflict, Busy, InvalidRequest, QuotaExceeded.
    """
    check_name(name, "backup")
    if container is not None:
        check_container(container)
    if node is not None or incremental:
        _await_synced(site, project, cluster, node)
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        backup, job = add_cluster_backup(
            session,
            site,
            row,
            name=name,
            description=description,
            container=container,
            incremental=incremental,
            node=node,
            desync=desync,
        )
    site.start(job)
    return backup, job


def add_cluster_backup(
    session: Session,
    site: Site,
    row: Cluster,
    *,
    name: str,
    description: str | None = None,
    container: str | None = None,
    incremental: bool = False,
    node: str | None = None,
    desync: bool = False,
    limit: ChainLimit = no_limit,
    scheduled: Scheduled | None = None,
) -> tuple[Backup, Job]:
    """Add a backup of the cluster and its job, in the transaction of the caller, who starts the job. Raises as the request."""
    refuse_if_working(session, row, "take a backup")
    if row.task is not None:
        raise Busy(f"cluster {row.name} ({row.id}) is in {row.task}; cannot take a backup now")
    refuse_if_cut_off(session, row, unless_waiting=True)
    quotas.require(session, row.project, site.settings, {"backups": 1})
    nodes, silent = nodes_of(session, row.id), silent_hosts(session)
    synced = [n for n in nodes if is_synced(n) and n.host not in silent]
    wanted = nodes_named(session, row, [node])[0] if node else None
    base, reason = _base(session, row, nodes, synced, wanted, limit) if incremental else (None, None)
    source = next(n for n in nodes if n.id == base.instance_id) if base else _source(row, synced, wanted)
    backup = new_backup(session, site, source, base, name=name, description=description, container=container, reason=reason)
    job = new_job(
        session,
        row.project,
        "backup",
        instance=source,
        cluster=row,
        backup=backup,
        scheduled=scheduled,
        fall_back_to_full=True,
        desync=desync,
    )
    return backup, job


def _await_synced(site: Site, project: str, cluster: str, wanted: str | None) -> None:
    """Give the node, by default the one with the chain, the time to be Synced if it has sent its data to another just now."""
    deadline = time.monotonic() + SOON
    while True:
        with site.catalog.read() as session:
            row = find_cluster(session, project, cluster)
            newest = None if wanted else newest_backup(session, row)
            home = (node for node in nodes_of(session, row.id) if newest is not None and node.id == newest.instance_id)
            node = nodes_named(session, row, [wanted])[0] if wanted else next(home, None)
        if node is None:
            return
        seen = node.galera or {}
        passing = seen.get("wsrep_cluster_status") == "Primary" and seen.get("wsrep_local_state_comment") in PASSING
        if is_synced(node) or not passing or time.monotonic() > deadline:
            return
        time.sleep(LOOK)


def is_synced(node: Instance) -> bool:
    """Whether the node serves with all that the cluster has, as last seen."""
    seen = node.galera or {}
    return (
        node.state == "running"
        and seen.get("wsrep_local_state_comment") == "Synced"
        and seen.get("wsrep_cluster_status") == "Primary"
        and seen.get("wsrep_ready") == "ON"
    )


def _commits(node: Instance) -> int:
    try:
        return int((node.galera or {}).get("wsrep_local_commits", 0))
    except ValueError:
        return 0


def _source(cluster: Cluster, synced: Sequence[Instance], wanted: Instance | None) -> Instance:
    """The node to back up: as asked, else the healthy one with the fewest writes of clients; of equals the last."""
    if wanted is not None:
        if wanted not in synced:
            raise Conflict(f"{node_name(wanted)} of cluster {cluster.name} is not Synced", remedy="Leave --node out.")
        return wanted
    if not synced:
        raise Conflict(
            f"no node of cluster {cluster.name} ({cluster.id}) is Synced",
            remedy=f"Bring it back: `strongroom cluster recover {cluster.name}`.",
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


def _base(
    session: Session,
    cluster: Cluster,
    nodes: Sequence[Instance],
    synced: Sequence[Instance],
    wanted: Instance | None,
    limit: ChainLimit,
) -> tuple[Backup | None, str | None]:
    """What an incremental stands on, or why it cannot."""
    newest = newest_backup(session, cluster)
    if newest is None:
        raise Conflict(
            f"cluster {cluster.name} ({cluster.id}) has no completed backup that an incremental could stand on",
            remedy=f"Take a full backup first: `strongroom cluster backup {cluster.name}`.",
        )
    home = next((node for node in nodes if node.id == newest.instance_id), None)
    if home is None:
        return None, f"a full was taken: the node of the newest backup ({newest.instance_name}) is gone"
    if wanted is not None and wanted.id != home.id:
        return None, f"a full was taken: the newest backup is of {node_name(home)}, not of {node_name(wanted)}"
    if home not in synced:
        return None, f"a full was taken of another node: {node_name(home)}, which has the chain, is not Synced"
    base, reason = newest_parent(session, home, limit)
    return base, reason.replace("of the instance", f"of {node_name(home)}") if reason else None
