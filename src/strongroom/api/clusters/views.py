"""Representations of clusters: Trove's fields, then those of Strongroom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.api.http.caller import Caller
from strongroom.api.http.fields import Link, View, format_naive
from strongroom.api.instances.views import Fault, FlavorLink, VolumeOf, choose_operating_status, choose_status, make_fault_view
from strongroom.catalog import Backup, Cluster, Instance, Run
from strongroom.catalog.find import nodes_of, open_run
from strongroom.catalog.queries import being_backed_up, newest_jobs, silent_hosts
from strongroom.flows import is_reversible, is_synced

TASKS = {
    None: (1, "NONE", "No tasks for the cluster."),
    "BUILDING": (2, "BUILDING", "Building the initial cluster."),
    "DELETING": (3, "DELETING", "Deleting the cluster."),
    "RESTARTING": (8, "RESTARTING_CLUSTER", "Restarting the cluster."),
    "RESTORING": (101, "RESTORING", "Restoring a backup to the cluster."),
    "RECOVERING": (102, "RECOVERING", "Recovering the cluster."),
    "ERROR": (1, "NONE", "The last task failed."),
}
"""``task`` of a cluster → Trove's id, name and description; ids above 100 are extensions."""


class TaskOf(View):
    """The current task of the cluster."""

    id: int
    name: str
    description: str


class DatastoreOfCluster(View):
    """Its datastore; ``version`` is the series."""

    type: str
    version: str


class NodeView(View):
    """A node of the cluster, which is an instance."""

    id: str
    name: str
    type: str = "member"
    status: str
    flavor: FlavorLink
    volume: VolumeOf
    ip: list[str]
    links: list[Link]
    node: str = Field(description="Extension, like all following fields: name within the cluster.")
    host: str = Field("", description="Administrators only.")
    operating_status: str
    state: str = Field(description="Last known state in the cluster (Synced, Joiner…), or else of its server.")
    position: str | None = Field(description="Last known uuid:seqno.")
    last_backup: str | None = Field(description="Name of the cluster's newest backup if it was taken on this node.")
    data_bytes: int
    old_bytes: int = Field(description="Bytes of previous data that restores kept.")
    isolated: bool = Field(description="A copy that runs no events and no replication until the cluster is activated.")
    detail: str


class RunView(View):
    """The newest restore of the cluster."""

    id: str
    backup_id: str | None
    phase: str = Field(description="Next phase (prepare, seed, stop, swap, bootstrap, join, check), or done or undone.")
    reversible: bool = Field(description="Whether a failure at this point restores the previous state.")
    method: str
    nodes: dict[str, Any]
    facts: dict[str, Any]


class ClusterView(View):
    """A cluster."""

    id: str
    name: str
    task: TaskOf
    created: str
    updated: str
    links: list[Link]
    datastore: DatastoreOfCluster
    ip: list[str]
    instances: list[NodeView]
    fault: Fault | None = Field(None, description="Present only after an error; cleared by the next success.")
    status: str = Field(description="Extension, like all following fields: the current task, or else HEALTHY, DEGRADED or DOWN.")
    runtime: str = Field(description="process or adopted.")
    uuid: str | None = Field(description="Id of its history, last seen while it was complete.")
    epoch: int = Field(description="Number of restores; nodes with an older number never join.")
    restore: RunView | None = Field(None, description="Its newest restore; only in replies about one cluster.")
    protected: bool = Field(description="It cannot be deleted until the protection is removed.")
    job_id: str | None = Field(description="Its newest job.")


class OneCluster(View):
    """Reply about one cluster."""

    cluster: ClusterView


class ManyClusters(View):
    """Reply with a page of clusters."""

    clusters: list[ClusterView]
    links: list[Link] = Field(default_factory=list)


def cluster_views(session: Session, rows: Sequence[Cluster], caller: Caller, *, restores: bool = False) -> list[ClusterView]:
    """The views of a page of clusters; ``restores`` adds the newest restore of each."""
    jobs = newest_jobs(session, Cluster, [row.id for row in rows])
    silent, busy = silent_hosts(session), being_backed_up(session)
    views = []
    for row in rows:
        nodes = nodes_of(session, row.id)
        view = _view(row, nodes, caller, jobs.get(row.id), _last_backup(session, row), silent, busy)
        if restores and (run := _run(session, row)) is not None:
            view.restore = run
        views.append(view)
    return views


def _last_backup(session: Session, row: Cluster) -> Backup | None:
    return session.scalars(
        select(Backup)
        .where(Backup.cluster_id == row.id, Backup.deleted.is_(None), Backup.status == "COMPLETED")
        .order_by(Backup.finished.desc())
        .limit(1)
    ).one_or_none()


def _run(session: Session, row: Cluster) -> RunView | None:
    run = (
        open_run(session, row.id)
        or session.scalars(
            select(Run).where(Run.cluster_id == row.id, Run.backup_id.is_not(None)).order_by(Run.created.desc()).limit(1)
        ).one_or_none()
    )
    if run is None or run.backup_id is None:
        return None
    return RunView(
        id=run.id,
        backup_id=run.backup_id,
        phase=run.phase,
        reversible=is_reversible(run.phase),
        method=run.method,
        nodes=run.nodes,
        facts=run.facts,
    )


def _view(
    row: Cluster,
    nodes: Sequence[Instance],
    caller: Caller,
    job_id: str | None,
    backup: Backup | None,
    silent: set[str],
    busy: set[str],
) -> ClusterView:
    task_id, task, description = TASKS.get(row.task, TASKS[None])
    view = ClusterView(
        id=row.id,
        name=row.name,
        task=TaskOf(id=task_id, name=task, description=description),
        created=format_naive(row.created),
        updated=format_naive(row.updated),
        links=caller.links("clusters", row.id),
        datastore=DatastoreOfCluster(type=row.datastore, version=row.series),
        ip=[node.address for node in nodes if node.address],
        instances=[_node(node, caller, backup, node.host in silent, node.id in busy) for node in nodes],
        status=_status(row, nodes, silent),
        runtime=row.runtime,
        uuid=row.state_uuid,
        epoch=row.epoch,
        protected=row.protected,
        job_id=job_id,
    )
    if row.fault:
        view.fault = make_fault_view(row.fault)
    return view


def _status(row: Cluster, nodes: Sequence[Instance], silent: set[str]) -> str:
    if row.task is not None:
        return row.task
    synced = [node for node in nodes if is_synced(node) and node.host not in silent]
    uuids = {(node.galera or {}).get("wsrep_cluster_state_uuid") for node in synced}
    if not synced:
        return "DOWN"
    return "HEALTHY" if len(synced) == len(nodes) and len(uuids) == 1 else "DEGRADED"


def _node(node: Instance, caller: Caller, backup: Backup | None, silent: bool, backing_up: bool) -> NodeView:
    seen = node.galera or {}
    uuid, seqno = seen.get("wsrep_cluster_state_uuid"), seen.get("wsrep_last_committed")
    state = seen.get("wsrep_local_state_comment") or node.state
    if seen and seen.get("wsrep_cluster_status") != "Primary":
        state = f"non-Primary, {state}"
    view = NodeView(
        id=node.id,
        name=node.name,
        type="member",
        status=choose_status(node, backing_up),
        flavor=FlavorLink(id=node.flavor, links=caller.links("flavors", node.flavor)),
        volume=VolumeOf(size=node.volume_size),
        ip=[node.address] if node.address else [],
        links=caller.links("instances", node.id),
        node=node.node or node.name,
        operating_status=choose_operating_status(node, silent),
        state="silent" if silent else state,
        position=f"{uuid}:{seqno}" if uuid and seqno else None,
        last_backup=backup.name if backup is not None and backup.instance_id == node.id else None,
        data_bytes=node.data_bytes,
        old_bytes=sum(old["bytes"] for old in node.old_data),
        isolated=node.isolated,
        detail=node.detail,
    )
    if caller.principal.is_admin:
        view.host = node.host
    return view


def plan_fields(plan: dict[str, Any]) -> dict[str, Any]:
    """The fields of a plan, its time in the format of all times."""
    return {**plan, "taken": plan["taken"].replace("+00:00", "Z") if plan["taken"] else None}
