"""``/clusters``: Galera clusters: create, adopt, list, show, back up, restore, recover, restart, delete."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field

from strongroom.agent.models import ServerDefinition
from strongroom.api.clusters.requests import (
    BackUpCluster,
    ClusterAction,
    CreateCluster,
    Method,
    NewCluster,
    RecoverCluster,
    RestoreCluster,
)
from strongroom.api.clusters.views import ManyClusters, OneCluster, cluster_views, plan_fields
from strongroom.api.http.caller import (
    JOB_HEADER,
    Caller,
    CallerDep,
    ControlDep,
    PageDep,
    accepted,
    make_next_links,
    project_router,
    reads_catalog,
    reply,
)
from strongroom.api.http.fields import FinalBackup, Segment, View
from strongroom.api.instances.views import OneInstance, make_views
from strongroom.catalog import Cluster
from strongroom.catalog.queries import newest_first
from strongroom.errors import Forbidden, InvalidRequest, NotFound, Unsupported
from strongroom.flows import Site, find_cluster, find_instance, plan_cluster_restore, request_cluster_backup
from strongroom.flows.backups.options import BackupOptions
from strongroom.flows.kinds.cluster_actions import request_cluster_action, request_recover
from strongroom.flows.kinds.cluster_create import request_adopt_cluster, request_cluster
from strongroom.flows.kinds.cluster_deletion import request_delete_cluster, request_reset_cluster
from strongroom.flows.kinds.cluster_restore import request_cluster_restore, request_resume
from strongroom.flows.kinds.final_deletion import request_final_cluster_deletion
from strongroom.identity import authorize

router = project_router("clusters")


class PlannedNode(View):
    """What happens to a node."""

    id: str
    node: str
    host: str | None = Field(description="Null unless the caller is an administrator.")
    does: str
    data: str


class Plan(View):
    """The effects of a restore."""

    backup: str
    backup_name: str
    chain: list[str]
    taken: str | None = Field(description="Time of the backup; later changes are lost.")
    data_bytes: int | None
    method: str
    why: str = Field(description="Why this method.")
    nodes: list[PlannedNode]
    left_out: list[str]
    old_data: str


class OnePlan(View):
    """Reply with a plan."""

    plan: Plan


@router.post("/clusters", response_model_exclude_unset=True)
def create(body: CreateCluster, caller: CallerDep, control: ControlDep, response: Response) -> OneCluster:
    """Create a cluster: empty, from a backup, or by adopting its running nodes."""
    requested = body.cluster
    for name in ("locality", "configuration"):
        if getattr(requested, name) is not None:
            raise Unsupported(f"{name} is not supported", remedy="Leave it out; nodes are always spread over the hosts.")
    if requested.adopt:
        row, job = request_adopt_cluster(
            control, caller.project, name=requested.name, nodes=_definitions(requested, caller, control)
        )
    else:
        flavors = {node.flavorRef for node in requested.instances}
        sizes = {node.volume.size if node.volume else None for node in requested.instances}
        if len(flavors) > 1 or len(sizes) > 1:
            raise InvalidRequest(
                "the nodes of a cluster must be alike", remedy="Give all the same flavor and the same volume size."
            )
        if requested.hosts:
            authorize(caller.principal, "POST /clusters hosts")
        backup = requested.restorePoint.backupRef if requested.restorePoint else None
        row, job = request_cluster(
            control,
            caller.owner(control, "backup", backup) if backup else caller.project,
            name=requested.name,
            nodes=len(requested.instances) or requested.nodes,
            flavor=next(iter(flavors), "") or None,
            volume_size=next(iter(sizes), None),
            datastore=requested.datastore.type or None,
            version=requested.datastore.version or requested.datastore.version_number or None,
            hosts=requested.hosts,
            backup=backup,
        )
    response.headers[JOB_HEADER] = job.id
    with control.catalog.read() as session:
        (seen,) = cluster_views(session, [row], caller)
    return OneCluster(cluster=seen)


def _definitions(requested: NewCluster, caller: Caller, control: Site) -> list[tuple[str | None, ServerDefinition]]:
    if not caller.may_operate():
        raise Forbidden(
            "adopting a server lets the service run commands on the host; you are not allowed to request that",
            remedy="Send the request as an administrator; without authentication, as root or the service's OS user, on its host.",
        )
    return [
        (
            node.host,
            ServerDefinition(
                datastore=requested.datastore.type or control.settings.datastores.default,
                series=requested.datastore.version or requested.datastore.version_number,
                runtime="adopted",
                **node.model_dump(exclude={"host"}),
            ),
        )
        for node in requested.adopt
    ]


@router.get("/clusters", response_model=ManyClusters)
@reads_catalog
def index(request: Request, caller: CallerDep, control: ControlDep, page: PageDep) -> Response:
    """Clusters of the project, newest first."""
    with control.catalog.read() as session:
        rows, marker = newest_first(session, Cluster, page, caller.project)
        seen = ManyClusters(clusters=cluster_views(session, rows, caller))
    if marker:
        seen.links = make_next_links(request, page, marker)
    return reply(seen)


@router.get("/clusters/{cluster}", response_model=OneCluster)
@reads_catalog
def show(cluster: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """One cluster with its nodes, by id or unique name."""
    with control.catalog.read() as session:
        row = find_cluster(session, caller.project, cluster)
        (seen,) = cluster_views(session, [row], caller, restores=True)
    return reply(OneCluster(cluster=seen))


@router.get("/clusters/{cluster}/instances/{instance}", response_model=OneInstance)
@reads_catalog
def node(cluster: Segment, instance: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """One node, as an instance."""
    with control.catalog.read() as session:
        row = find_cluster(session, caller.project, cluster)
        member = find_instance(session, row.project, instance)
        if member.cluster_id != row.id:
            raise NotFound(
                f"instance {instance} is not a node of cluster {row.name}", remedy=f"See `strongroom cluster show {row.name}`."
            )
        (seen,) = make_views(session, [member], caller, control.settings.service.region)
    return reply(OneInstance(instance=seen))


@router.delete("/clusters/{cluster}", status_code=202)
def delete(
    cluster: Segment,
    caller: CallerDep,
    control: ControlDep,
    final_backup: FinalBackup = False,
) -> Response:
    """Cancel the cluster's jobs and delete it, its nodes and their data. Its backups remain."""
    if final_backup:
        return accepted(request_final_cluster_deletion(control, caller.project, cluster))
    return accepted(request_delete_cluster(control, caller.project, cluster))


@router.post("/clusters/{cluster}", status_code=202)
def act(cluster: Segment, body: ClusterAction, caller: CallerDep, control: ControlDep) -> Response:
    """Trove's actions. Only reset-status is supported; to grow, shrink or upgrade a cluster, restore a backup to a new one."""
    asked = body.model_fields_set | set(body.model_extra or {})
    known = "The action is reset-status."
    if len(asked) != 1:
        raise InvalidRequest(f"the body must name one action, not {len(asked)}", remedy=known)
    (name,) = asked
    with control.catalog.read() as session:
        row = find_cluster(session, caller.project, cluster)
    if name == "reset_status":
        authorize(caller.principal, "POST /clusters/{cluster} reset-status")
        request_reset_cluster(control, caller.project, row.id)
        return accepted()
    if name in ("grow", "shrink", "upgrade", "add_shard"):
        raise Unsupported(
            f"{name} of a cluster is not supported",
            remedy="Take a backup, and create a new cluster of the wanted size from it: `strongroom cluster create --backup`.",
        )
    raise InvalidRequest(f"there is no action {name[:64]!r}", remedy=known)


@router.post("/clusters/{cluster}/backup", status_code=202)
def back_up(cluster: Segment, body: BackUpCluster, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: take a backup of the cluster. The job contains the backup and the node."""
    requested = body.backup
    _, job = request_cluster_backup(
        control,
        caller.project,
        cluster,
        BackupOptions(
            name=requested.name or f"{cluster[:200]}-{datetime.now(UTC):%Y%m%d-%H%M%S}",
            description=requested.description or None,
            container=requested.swift_container or None,
            incremental=requested.incremental,
            node=requested.node or None,
            desync=requested.desync,
        ),
    )
    return accepted(job)


@router.get("/clusters/{cluster}/restore/{backup}")
def plan(
    cluster: Segment,
    backup: Segment,
    caller: CallerDep,
    control: ControlDep,
    method: Method | None = None,
    without: Annotated[list[str], Query(description="Nodes to leave out.")] = [],  # noqa: B006 - FastAPI copies it
) -> OnePlan:
    """Extension: plan a restore; changes nothing."""
    found = plan_cluster_restore(control, caller.project, cluster, backup, method=method, without=without)
    if not caller.principal.is_admin:
        found = {**found, "nodes": [{**node, "host": None} for node in found["nodes"]]}
    return OnePlan(plan=Plan(**plan_fields(found)))


@router.post("/clusters/{cluster}/restore", status_code=202)
def restore(cluster: Segment, body: RestoreCluster, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: restore a backup to the whole cluster. Everything is prepared before the outage; the previous data is kept."""
    requested = body.restore
    if requested.resume == bool(requested.backupRef):
        raise InvalidRequest("a restore needs either backupRef or resume", remedy="Name the backup to restore.")
    if requested.resume:
        return accepted(request_resume(control, caller.project, cluster))
    return accepted(
        request_cluster_restore(
            control, caller.project, cluster, requested.backupRef, method=requested.method, without=requested.without
        )
    )


@router.post("/clusters/{cluster}/recover", status_code=202)
def recover(cluster: Segment, body: RecoverCluster, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: restart a cluster that is down."""
    requested = body.recover
    return accepted(request_recover(control, caller.project, cluster, node=requested.node or None, force=requested.force))


@router.post("/clusters/{cluster}/restart", status_code=202)
def restart(cluster: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: restart the nodes one by one."""
    return accepted(request_cluster_action(control, caller.project, cluster, "restart"))


@router.post("/clusters/{cluster}/activate", status_code=202)
def activate(cluster: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: enable events and replication on the nodes of an isolated copy; restarts them one by one."""
    return accepted(request_cluster_action(control, caller.project, cluster, "activate"))


@router.post("/clusters/{cluster}/discard_old", status_code=202)
def discard_old(cluster: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: delete the previous data that restores kept on the nodes."""
    return accepted(request_cluster_action(control, caller.project, cluster, "discard_old"))
