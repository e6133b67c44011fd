"""``/instances``: create, list, show, rename, act, delete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from fastapi import APIRouter, Query, Request, Response

from strongroom.agent.models import ServerDefinition
from strongroom.api.databases.requests import DatabaseBody, UserBody, database_specs, user_specs
from strongroom.api.http.caller import JOB_HEADER, Caller, CallerDep, ControlDep, PageDep, accepted, looking, next_links, reply
from strongroom.api.http.fields import Body, Segment
from strongroom.api.instances.requests import CreateInstance, InstanceAction, InstanceWish, Resize, UpdateInstance
from strongroom.api.instances.views import ManyInstances, OneInstance, view, views
from strongroom.catalog import Instance, now
from strongroom.catalog.queries import newest_first
from strongroom.errors import Forbidden, InvalidRequest, Unsupported
from strongroom.flows import (
    Site,
    change_record,
    find_instance,
    request_action,
    request_delete_instance,
    request_instance,
    request_reset,
    request_resize_flavor,
    request_resize_volume,
    request_restore,
)
from strongroom.identity import authorize

router = APIRouter(tags=["instances"])


ClusteredQuery = Annotated[bool, Query(description="Also those that are nodes of clusters.")]


def of_clusters(included: bool) -> dict[str, str | None]:
    """The filter of a list of instances: nodes of clusters are shown with these, unless they are asked for."""
    return {} if included else {"cluster_id": None}


UNSUPPORTED = ("configuration", "configuration_id", "replica_of", "slave_of", "replica_count", "locality", "modules")
UNSUPPORTED_CHANGES = ("configuration", "replica_of", "slave_of", "datastore_version")
"""Parameters of Trove's, at create and in changes."""
Action = Literal["start", "stop", "restart", "discard_old", "activate"]
REPLICATION = {
    "promote_to_replica_source": "is not a replica",
    "eject_replica_source": "is not a replica source",
}
"""Actions of Trove on replicas, and why they make no sense on an instance of ours."""


@router.post("/instances", response_model_exclude_unset=True)
def create(body: CreateInstance, caller: CallerDep, control: ControlDep, response: Response) -> OneInstance:
    """Create an instance: empty, from a backup, or by adopting a running server."""
    wish = body.instance
    _refuse_unsupported(wish, UNSUPPORTED)
    if any(nic.ip_address for nic in wish.nics):
        raise Unsupported(
            "ip_address is not supported: an instance gets its address from the pool of its host", remedy="Leave it out."
        )
    region = control.settings.service.region
    if wish.region_name not in ("", region):
        raise InvalidRequest(f"region {wish.region_name} is not served here", remedy=f"This service is region {region}.")
    if wish.host is not None:
        authorize(caller.principal, "POST /instances host")
    tablespaces = wish.restorePoint.tablespaces if wish.restorePoint else {}
    if tablespaces:
        authorize(caller.principal, "POST /instances tablespaces")
        if not caller.may_operate():
            raise Forbidden(
                "this caller may not name directories of the host",
                remedy="Leave tablespaces out: they go into the data directory. Or ask as root or the OS user of the service.",
            )
    databases, users = database_specs(wish.databases), user_specs(wish.users)
    _refuse_strange_grants(wish.databases, wish.users)
    backup = wish.restorePoint.backupRef if wish.restorePoint else None
    row, job = request_instance(
        control,
        caller.owner(control, "backup", backup) if backup else caller.project,
        name=wish.name,
        flavor=wish.flavorRef or None,
        volume_size=wish.volume.size if wish.volume else None,
        datastore=wish.datastore.type or None,
        version=wish.datastore.version or None,
        version_number=wish.datastore.version_number or None,
        backup=backup,
        databases=databases,
        users=users,
        adopt=_definition(wish, caller, control) if wish.adopt else None,
        host=wish.host,
        tablespaces=tablespaces,
        echo=wish.model_dump(mode="json", include={"nics", "availability_zone", "access"}, exclude_unset=True, by_alias=True),
    )
    response.headers[JOB_HEADER] = job.id
    return OneInstance(instance=view(row, caller, region, job_id=job.id))


@router.get("/instances", response_model=ManyInstances)
@router.get("/instances/detail", response_model=ManyInstances)
@looking
def index(
    request: Request, caller: CallerDep, control: ControlDep, page: PageDep, include_clustered: ClusteredQuery = False
) -> Response:
    """Instances of the project, newest first."""
    with control.catalog.read() as session:
        rows, marker = newest_first(session, Instance, page, caller.project, of_clusters(include_clustered))
        seen = ManyInstances(instances=views(session, rows, caller, control.settings.service.region))
    if marker:
        seen.links = next_links(request, page, marker)
    return reply(seen)


@router.get("/instances/{instance}", response_model=OneInstance)
@looking
def show(instance: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """One instance, by id or unique name."""
    with control.catalog.read() as session:
        row = find_instance(session, caller.project, instance)
        (seen,) = views(session, [row], caller, control.settings.service.region)
    return reply(OneInstance(instance=seen))


@router.put("/instances/{instance}", status_code=202)
@router.patch("/instances/{instance}", status_code=202)
def update(instance: Segment, body: UpdateInstance, caller: CallerDep, control: ControlDep) -> Response:
    """Rename the instance, or change who should reach it and whether it is protected; this is possible at any time."""
    changes = body.instance
    _refuse_unsupported(changes, UNSUPPORTED_CHANGES)
    with control.catalog.write() as session:
        row = find_instance(session, caller.project, instance)
        if changes.model_fields_set & {"replica_of", "slave_of"}:
            raise InvalidRequest(f"Instance {row.id} is not a replica.", remedy="This service makes no replicas.")
        if changes.name or changes.protected is not None:
            change_record(row, name=changes.name, protected=changes.protected)
        if changes.access.model_fields_set:
            access = changes.access.model_dump(mode="json", exclude_unset=True)
            row.request = {**row.request, "access": {**row.request.get("access", {}), **access}}
            row.updated = now()
    return accepted()


@router.delete("/instances/{instance}", status_code=202)
def delete(instance: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Delete the instance and its data, cancelling what runs on it. Its backups stay."""
    return accepted(request_delete_instance(control, caller.project, instance))


@router.post("/instances/{instance}/action", status_code=202)
def act(instance: Segment, body: InstanceAction, caller: CallerDep, control: ControlDep) -> Response:
    """Start, stop, restart, activate, resize, reset, restore in place, or drop the data that restores have put aside."""
    asked = body.model_fields_set
    known = ", ".join(InstanceAction.model_fields)
    if len(asked) != 1:
        raise InvalidRequest(f"the body must name one action, not {len(asked)}", remedy=f"Actions are {known}.")
    (name,) = asked
    if body.restore is not None:
        if body.restore.tablespaces:
            raise InvalidRequest(
                "in place, tablespaces go back to where they are", remedy="Leave tablespaces out, or restore to a new instance."
            )
        return accepted(request_restore(control, caller.project, instance, body.restore.backupRef))
    if body.resize is not None:
        return _resize(body.resize, instance, caller, control)
    if name == "reset_status":
        authorize(caller.principal, "POST /instances/{instance}/action reset_status")
        request_reset(control, caller.project, instance)
        return accepted()
    for kind in get_args(Action):
        if kind == name:
            return accepted(request_action(control, caller.project, instance, kind))
    if name in REPLICATION:
        with control.catalog.read() as session:
            row = find_instance(session, caller.project, instance)
        raise InvalidRequest(f"Instance {row.id} {REPLICATION[name]}.", remedy="This service makes no replicas.")
    raise InvalidRequest(f"there is no action {name[:64]!r}", remedy=f"Actions are {known}.")


def _resize(wish: Resize, instance: str, caller: Caller, control: Site) -> Response:
    if wish.volume is None:
        return accepted(request_resize_flavor(control, caller.project, instance, wish.flavorRef))
    request_resize_volume(control, caller.project, instance, wish.volume.size)
    return accepted()


def _refuse_unsupported(wish: Body, names: Iterable[str]) -> None:
    """Raise Unsupported for what Trove can do and this service cannot: better than to seem to have done it."""
    for name in names:
        if getattr(wish, name) is not None:
            raise Unsupported(f"{name} is not supported", remedy="Leave it out.")


def _refuse_strange_grants(databases: list[DatabaseBody], users: list[UserBody]) -> None:
    known = {d.name for d in databases}
    for user in users:
        for database in user.databases:
            if database.name not in known:
                raise InvalidRequest(
                    f"user {user.name} is to have database {database.name}, which is not among the databases of the request"
                )


def _definition(wish: InstanceWish, caller: Caller, control: Site) -> ServerDefinition:
    """The server to adopt, as the agent wants it described."""
    assert wish.adopt is not None
    if wish.restorePoint or wish.databases or wish.users:
        raise InvalidRequest(
            "an adopted server is taken as it is: backup, databases and users cannot be given",
            remedy="Adopt it first, then change it.",
        )
    if not caller.may_operate():
        raise Forbidden(
            "adopting a server lets the service run commands of the host; this caller may not ask for that",
            remedy="Ask as an administrator; without authentication, as root or the OS user that runs the service, on its host.",
        )
    return ServerDefinition(
        name=wish.name,
        datastore=wish.datastore.type or control.settings.datastores.default,
        series=wish.datastore.version or wish.datastore.version_number,
        runtime="adopted",
        **wish.adopt.model_dump(),
    )
