"""``/clusters``: Galera clusters: create, adopt, list, show, back up, restore, recover, restart, delete."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field

from strongroom.agent.models import ServerDefinition
from strongroom.api.clusters.views import ManyClusters, OneCluster, cluster_views, plan_fields
from strongroom.api.http.caller import JOB_HEADER, Caller, CallerDep, ControlDep, PageDep, accepted, looking, next_links, reply
from strongroom.api.http.fields import Body, Container, FlavorRef, Name, OwnBody, Ref, Segment, View
from strongroom.api.instances.requests import Adopt, Argument, DatastoreChoice, RestorePoint, Volume
from strongroom.api.instances.views import OneInstance, views
from strongroom.catalog import Cluster
from strongroom.catalog.queries import newest_first
from strongroom.errors import Forbidden, InvalidRequest, NotFound, Unsupported
from strongroom.flows import (
    Site,
    find_cluster,
    find_instance,
    plan_cluster_restore,
    request_adopt_cluster,
    request_cluster,
    request_cluster_action,
    request_cluster_backup,
    request_cluster_restore,
    request_delete_cluster,
    request_recover,
    request_reset_cluster,
    request_resume,
)
from strongroom.identity import authorize

router = APIRouter(tags=["clusters"])

Method = Literal["seed", "sst"]


class NodeWish(Body):
    """A node, as Trove's clients ask for one. All must be alike."""

    flavorRef: FlavorRef = ""
    volume: Volume | None = None


class AdoptNode(Adopt):
    """A running node to take in."""

    host: Ref | None = Field(None, description="The host with an agent that it runs on. Default: the only one.")
    bootstrap_command: list[Argument] = Field(default_factory=list, description="How its owner bootstraps a cluster with it.")


class ClusterWish(Body):
    """A cluster to create: everything but the name has a default. An unknown key is refused, as for instances."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    datastore: DatastoreChoice = DatastoreChoice()
    instances: list[NodeWish] = Field(default_factory=list, max_length=64)
    locality: Any = None
    configuration: Any = None
    extended_properties: dict[str, Any] = Field(default_factory=dict)
    nodes: int = Field(
        3, ge=1, le=64, description="Extension, as are all that follow: how many, where `instances` are not named."
    )
    hosts: list[Ref] = Field(default_factory=list, max_length=64, description="Where to put them. Default: all hosts that can.")
    restorePoint: RestorePoint | None = Field(None, description="Give it the data of this backup.")
    adopt: list[AdoptNode] = Field(
        default_factory=list, max_length=64, description="Take in these nodes, instead of making some."
    )


class CreateCluster(Body):
    """Body of a create."""

    cluster: ClusterWish


class ClusterAction(Body):
    """Exactly one of these; what is not done says so."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    reset_status: dict[str, Any] = Field(
        default_factory=dict, alias="reset-status", description="Give up whatever is being done to it. For administrators."
    )


class BackupOfCluster(OwnBody):
    """A backup to take."""

    name: Name = ""
    description: Name = ""
    incremental: bool = Field(
        False, description="Only what changed since the newest backup; a full with a reason, if that is gone."
    )
    node: Ref = Field("", description="Of this node. Default: a healthy one, or the one with the chain.")
    desync: bool = Field(False, description="The cluster does not wait for the node meanwhile.")
    swift_container: Container = ""


class BackUpCluster(OwnBody):
    """Body of a backup."""

    backup: BackupOfCluster = BackupOfCluster()


class RestoreOfCluster(OwnBody):
    """What to restore."""

    backupRef: Ref = Field("", description="Id or unique name.")
    method: Method | None = Field(None, description="seed: all nodes from the backup; sst: one, which sends it to the others.")
    without: list[Ref] = Field(default_factory=list, description="Nodes to leave out: they are fenced.")
    resume: bool = Field(False, description="Go on with the restore that failed on its way.")


class RestoreCluster(OwnBody):
    """Body of a restore."""

    restore: RestoreOfCluster


class Recovery(OwnBody):
    """How to bring it back."""

    node: Ref = Field("", description="The node that begins. Default: the one that is farthest.")
    force: bool = Field(False, description="Though nodes cannot be asked, or know more.")


class RecoverCluster(OwnBody):
    """Body of a recovery."""

    recover: Recovery = Recovery()


class PlannedNode(View):
    """What happens to a node."""

    id: str
    node: str
    host: str | None = Field(description="Null for all but administrators.")
    does: str
    data: str


class Plan(View):
    """What a restore would do."""

    backup: str
    backup_name: str
    chain: list[str]
    taken: str | None = Field(description="What was written later is lost.")
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
    wish = body.cluster
    for name in ("locality", "configuration"):
        if getattr(wish, name) is not None:
            raise Unsupported(f"{name} is not supported", remedy="Leave it out; nodes are spread over the hosts anyway.")
    if wish.adopt:
        row, job = request_adopt_cluster(control, caller.project, name=wish.name, nodes=_definitions(wish, caller, control))
    else:
        flavors = {node.flavorRef for node in wish.instances}
        sizes = {node.volume.size if node.volume else None for node in wish.instances}
        if len(flavors) > 1 or len(sizes) > 1:
            raise InvalidRequest(
                "the nodes of a cluster must be alike", remedy="Give all the same flavor and the same volume size."
            )
        if wish.hosts:
            authorize(caller.principal, "POST /clusters hosts")
        backup = wish.restorePoint.backupRef if wish.restorePoint else None
        row, job = request_cluster(
            control,
            caller.owner(control, "backup", backup) if backup else caller.project,
            name=wish.name,
            nodes=len(wish.instances) or wish.nodes,
            flavor=next(iter(flavors), "") or None,
            volume_size=next(iter(sizes), None),
            datastore=wish.datastore.type or None,
            version=wish.datastore.version or wish.datastore.version_number or None,
            hosts=wish.hosts,
            backup=backup,
        )
    response.headers[JOB_HEADER] = job.id
    with control.catalog.read() as session:
        (seen,) = cluster_views(session, [row], caller)
    return OneCluster(cluster=seen)


def _definitions(wish: ClusterWish, caller: Caller, control: Site) -> list[tuple[str | None, ServerDefinition]]:
    if not caller.may_operate():
        raise Forbidden(
            "adopting a server lets the service run commands of the host; this caller may not ask for that",
            remedy="Ask as an administrator; without authentication, as root or the OS user that runs the service, on its host.",
        )
    return [
        (
            node.host,
            ServerDefinition(
                datastore=wish.datastore.type or control.settings.datastores.default,
                series=wish.datastore.version or wish.datastore.version_number,
                runtime="adopted",
                **node.model_dump(exclude={"host"}),
            ),
        )
        for node in wish.adopt
    ]


@router.get("/clusters", response_model=ManyClusters)
@looking
def index(request: Request, caller: CallerDep, control: ControlDep, page: PageDep) -> Response:
    """Clusters of the project, newest first."""
    with control.catalog.read() as session:
        rows, marker = newest_first(session, Cluster, page, caller.project)
        seen = ManyClusters(clusters=cluster_views(session, rows, caller))
    if marker:
        seen.links = next_links(request, page, marker)
    return reply(seen)


@router.get("/clusters/{cluster}", response_model=OneCluster)
@looking
def show(cluster: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """One cluster with its nodes, by id or unique name."""
    with control.catalog.read() as session:
        row = find_cluster(session, caller.project, cluster)
        (seen,) = cluster_views(session, [row], caller, restores=True)
    return reply(OneCluster(cluster=seen))


@router.get("/clusters/{cluster}/instances/{instance}", response_model=OneInstance)
@looking
def node(cluster: Segment, instance: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """One node, as an instance."""
    with control.catalog.read() as session:
        row = find_cluster(session, caller.project, cluster)
        member = find_instance(session, row.project, instance)
        if member.cluster_id != row.id:
            raise NotFound(
                f"instance {instance} is not of cluster {row.name}", remedy=f"See `strongroom cluster show {row.name}`."
            )
        (seen,) = views(session, [member], caller, control.settings.service.region)
    return reply(OneInstance(instance=seen))


@router.delete("/clusters/{cluster}", status_code=202)
def delete(cluster: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Delete the cluster, its nodes and their data, cancelling what runs on it. Its backups stay."""
    return accepted(request_delete_cluster(control, caller.project, cluster))


@router.post("/clusters/{cluster}", status_code=202)
def act(cluster: Segment, body: ClusterAction, caller: CallerDep, control: ControlDep) -> Response:
    """Trove's actions. Only reset-status is done; to grow, shrink or upgrade a cluster, restore a backup to another one."""
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
            remedy="Back it up, and create another of the wanted size from that: `strongroom cluster create --backup`.",
        )
    raise InvalidRequest(f"there is no action {name[:64]!r}", remedy=known)


@router.post("/clusters/{cluster}/backup", status_code=202)
def back_up(cluster: Segment, body: BackUpCluster, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: back the cluster up. The reply's job names the backup and the node."""
    wish = body.backup
    _, job = request_cluster_backup(
        control,
        caller.project,
        cluster,
        name=wish.name or f"{cluster[:200]}-{datetime.now(UTC):%Y%m%d-%H%M%S}",
        description=wish.description or None,
        container=wish.swift_container or None,
        incremental=wish.incremental,
        node=wish.node or None,
        desync=wish.desync,
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
    """Extension: what a restore would do; nothing is begun."""
    found = plan_cluster_restore(control, caller.project, cluster, backup, method=method, without=without)
    if not caller.principal.is_admin:
        found = {**found, "nodes": [{**node, "host": None} for node in found["nodes"]]}
    return OnePlan(plan=Plan(**plan_fields(found)))


@router.post("/clusters/{cluster}/restore", status_code=202)
def restore(cluster: Segment, body: RestoreCluster, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: restore a backup to the whole cluster. All is made ready before the outage; the old data is kept aside."""
    wish = body.restore
    if wish.resume == bool(wish.backupRef):
        raise InvalidRequest("a restore needs either backupRef or resume", remedy="Name the backup to restore.")
    if wish.resume:
        return accepted(request_resume(control, caller.project, cluster))
    return accepted(
        request_cluster_restore(control, caller.project, cluster, wish.backupRef, method=wish.method, without=wish.without)
    )


@router.post("/clusters/{cluster}/recover", status_code=202)
def recover(cluster: Segment, body: RecoverCluster, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: bring a cluster back that is down."""
    wish = body.recover
    return accepted(request_recover(control, caller.project, cluster, node=wish.node or None, force=wish.force))


@router.post("/clusters/{cluster}/restart", status_code=202)
def restart(cluster: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: restart one node after the other."""
    return accepted(request_cluster_action(control, caller.project, cluster, "restart"))


@router.post("/clusters/{cluster}/activate", status_code=202)
def activate(cluster: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: let the nodes of an isolated copy run their events and replication, one after the other; restarts them."""
    return accepted(request_cluster_action(control, caller.project, cluster, "activate"))


@router.post("/clusters/{cluster}/discard_old", status_code=202)
def discard_old(cluster: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Extension: drop the data that restores have put aside on the nodes."""
    return accepted(request_cluster_action(control, caller.project, cluster, "discard_old"))
