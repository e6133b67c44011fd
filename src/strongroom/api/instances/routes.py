"""``/instances``: create, list, show, rename, act, delete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, get_args

from fastapi import Query, Request, Response

from strongroom.agent.models import ServerDefinition
from strongroom.api.databases.requests import DatabaseBody, UserBody, database_specs, user_specs
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
from strongroom.api.http.fields import Body, FinalBackup, Segment
from strongroom.api.instances.requests import (
    CreateInstance,
    InstanceAction,
    InstanceRestorePoint,
    NewInstance,
    Resize,
    UpdateInstance,
)
from strongroom.api.instances.views import ManyInstances, OneInstance, make_view, make_views
from strongroom.catalog import Instance, now
from strongroom.catalog.queries import newest_first
from strongroom.errors import Forbidden, InvalidRequest, Unsupported
from strongroom.flows import Recovery, Site, change_record, decide_recovery, find_instance
from strongroom.flows.kinds.create import request_instance
from strongroom.flows.kinds.final_deletion import request_final_deletion
from strongroom.flows.kinds.lifecycle import request_action, request_delete_instance, request_reset
from strongroom.flows.kinds.resize import request_resize_flavor, request_resize_volume
from strongroom.flows.kinds.restore import request_restore
from strongroom.identity import authorize

router = project_router("instances")


ClusteredQuery = Annotated[bool, Query(description="Include nodes of clusters.")]


def cluster_filter(included: bool) -> dict[str, str | None]:
    """Filter of a list of instances: nodes of clusters are left out unless ``included``."""
    return {} if included else {"cluster_id": None}


UNSUPPORTED = ("configuration", "configuration_id", "replica_of", "slave_of", "replica_count", "locality", "modules")
UNSUPPORTED_CHANGES = ("configuration", "replica_of", "slave_of", "datastore_version")
"""Unsupported parameters of Trove's, when creating and when changing an instance."""
Action = Literal["start", "stop", "restart", "discard_old", "activate"]
REPLICATION = {
    "promote_to_replica_source": "is not a replica",
    "eject_replica_source": "is not a replica source",
}
"""Trove's actions on replicas, and why they are refused."""


@router.post("/instances", response_model_exclude_unset=True)
def create(body: CreateInstance, caller: CallerDep, control: ControlDep, response: Response) -> OneInstance:
    """Create an instance: empty, from a backup, or by adopting a running server."""
    requested = body.instance
    _refuse_unsupported(requested, UNSUPPORTED)
    if any(nic.ip_address for nic in requested.nics):
        raise Unsupported(
            "ip_address is not supported: an instance gets its address from the pool of its host", remedy="Leave it out."
        )
    region = control.settings.service.region
    if requested.region_name not in ("", region):
        raise InvalidRequest(f"region {requested.region_name} does not exist here", remedy=f"This service is region {region}.")
    if requested.host is not None:
        authorize(caller.principal, "POST /instances host")
    tablespaces = requested.restorePoint.tablespaces if requested.restorePoint else {}
    if tablespaces:
        authorize(caller.principal, "POST /instances tablespaces")
        if not caller.may_operate():
            raise Forbidden(
                "you are not allowed to specify directories of the host",
                remedy="Leave tablespaces out to restore them into the data directory, or send the request as root or the "
                "service's OS user.",
            )
    databases, users = database_specs(requested.databases), user_specs(requested.users)
    _require_known_databases(requested.databases, requested.users)
    project, backup, recovery = _find_source(requested.restorePoint, caller, control)
    row, job = request_instance(
        control,
        project,
        name=requested.name,
        flavor=requested.flavorRef or None,
        volume_size=requested.volume.size if requested.volume else None,
        datastore=requested.datastore.type or None,
        version=requested.datastore.version or None,
        version_number=requested.datastore.version_number or None,
        backup=backup,
        recovery=recovery,
        databases=databases,
        users=users,
        adopt=_definition(requested, caller, control) if requested.adopt else None,
        host=requested.host,
        tablespaces=tablespaces,
        echo=requested.model_dump(
            mode="json", include={"nics", "availability_zone", "access"}, exclude_unset=True, by_alias=True
        ),
    )
    response.headers[JOB_HEADER] = job.id
    return OneInstance(instance=make_view(row, caller, region, job_id=job.id))


@router.get("/instances", response_model=ManyInstances)
@router.get("/instances/detail", response_model=ManyInstances)
@reads_catalog
def index(
    request: Request, caller: CallerDep, control: ControlDep, page: PageDep, include_clustered: ClusteredQuery = False
) -> Response:
    """Instances of the project, newest first."""
    with control.catalog.read() as session:
        rows, marker = newest_first(session, Instance, page, caller.project, cluster_filter(include_clustered))
        seen = ManyInstances(instances=make_views(session, rows, caller, control.settings.service.region))
    if marker:
        seen.links = make_next_links(request, page, marker)
    return reply(seen)


@router.get("/instances/{instance}", response_model=OneInstance)
@reads_catalog
def show(instance: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """One instance, by id or unique name."""
    with control.catalog.read() as session:
        row = find_instance(session, caller.project, instance)
        (seen,) = make_views(session, [row], caller, control.settings.service.region)
    return reply(OneInstance(instance=seen))


@router.put("/instances/{instance}", status_code=202)
@router.patch("/instances/{instance}", status_code=202)
def update(instance: Segment, body: UpdateInstance, caller: CallerDep, control: ControlDep) -> Response:
    """Change the name, access or protection of the instance; possible at any time."""
    changes = body.instance
    _refuse_unsupported(changes, UNSUPPORTED_CHANGES)
    with control.catalog.write() as session:
        row = find_instance(session, caller.project, instance)
        if changes.model_fields_set & {"replica_of", "slave_of"}:
            raise InvalidRequest(f"Instance {row.id} is not a replica.", remedy="Replicas are not supported.")
        if changes.name or changes.protected is not None:
            change_record(row, name=changes.name, protected=changes.protected)
        if changes.access.model_fields_set:
            access = changes.access.model_dump(mode="json", exclude_unset=True)
            row.request = {**row.request, "access": {**row.request.get("access", {}), **access}}
            row.updated = now()
    return accepted()


@router.delete("/instances/{instance}", status_code=202)
def delete(
    instance: Segment,
    caller: CallerDep,
    control: ControlDep,
    final_backup: FinalBackup = False,
) -> Response:
    """Cancel the instance's jobs and delete it with its data. Its backups remain."""
    if final_backup:
        return accepted(request_final_deletion(control, caller.project, instance))
    return accepted(request_delete_instance(control, caller.project, instance))


@router.post("/instances/{instance}/action", status_code=202)
def act(instance: Segment, body: InstanceAction, caller: CallerDep, control: ControlDep) -> Response:
    """Start, stop, restart, activate, resize, reset or restore an instance, or delete its previous data."""
    asked = body.model_fields_set
    known = ", ".join(InstanceAction.model_fields)
    if len(asked) != 1:
        raise InvalidRequest(f"the body must name one action, not {len(asked)}", remedy=f"Actions are {known}.")
    (name,) = asked
    if body.restore is not None:
        if body.restore.tablespaces:
            raise InvalidRequest(
                "a restore in place keeps the directories of tablespaces",
                remedy="Leave tablespaces out, or restore to a new instance.",
            )
        _, backup, recovery = _find_source(body.restore, caller, control)
        assert backup is not None
        return accepted(request_restore(control, caller.project, instance, backup, recovery))
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
        raise InvalidRequest(f"Instance {row.id} {REPLICATION[name]}.", remedy="Replicas are not supported.")
    raise InvalidRequest(f"there is no action {name[:64]!r}", remedy=f"Actions are {known}.")


def _find_source(
    requested: InstanceRestorePoint | None, caller: Caller, control: Site
) -> tuple[str, str | None, Recovery | None]:
    """The project of what is restored, the backup, and to which moment after it."""
    if requested is None:
        return caller.project, None, None
    if requested.backupRef:
        return caller.owner(control, "backup", requested.backupRef), requested.backupRef, None
    project = caller.owner(control, "instance", requested.instance)
    recovery = decide_recovery(control, project, requested.instance, requested.target)
    return project, recovery.bases[0].backup, recovery


def _resize(requested: Resize, instance: str, caller: Caller, control: Site) -> Response:
    if requested.volume is None:
        return accepted(request_resize_flavor(control, caller.project, instance, requested.flavorRef))
    request_resize_volume(control, caller.project, instance, requested.volume.size)
    return accepted()


def _refuse_unsupported(requested: Body, names: Iterable[str]) -> None:
    """Raise Unsupported for parameters of Trove's that this service does not support."""
    for name in names:
        if getattr(requested, name) is not None:
            raise Unsupported(f"{name} is not supported", remedy="Leave it out.")


def _require_known_databases(databases: list[DatabaseBody], users: list[UserBody]) -> None:
    known = {d.name for d in databases}
    for user in users:
        for database in user.databases:
            if database.name not in known:
                raise InvalidRequest(
                    f"user {user.name} is given database {database.name}, which is not in the request's databases"
                )


def _definition(requested: NewInstance, caller: Caller, control: Site) -> ServerDefinition:
    """The definition of the server to adopt, for the agent."""
    assert requested.adopt is not None
    if requested.restorePoint or requested.databases or requested.users:
        raise InvalidRequest(
            "an adopted server is not changed: backup, databases and users cannot be specified",
            remedy="Adopt it first, then change it.",
        )
    if not caller.may_operate():
        raise Forbidden(
            "adopting a server lets the service run commands on the host; you are not allowed to request that",
            remedy="Send the request as an administrator; without authentication, as root or the service's OS user, on its host.",
        )
    return ServerDefinition(
        name=requested.name,
        datastore=requested.datastore.type or control.settings.datastores.default,
        series=requested.datastore.version or requested.datastore.version_number,
        runtime="adopted",
        **requested.adopt.model_dump(),
    )
