"""``/backups``: take, list, show, verify, delete; also ``/instances/{instance}/backups``."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from sqlalchemy.orm import Session

from strongroom import datastores
from strongroom.api.backups.requests import BackupAction, CreateBackup
from strongroom.api.backups.views import ManyBackups, OneBackup, backup_view, backup_views
from strongroom.api.http.caller import (
    JOB_HEADER,
    Caller,
    CallerDep,
    ControlDep,
    ListedDep,
    PageDep,
    accepted,
    looking,
    next_links,
    reply,
)
from strongroom.api.http.fields import (
    Name,
    Segment,
    View,
)
from strongroom.catalog import Backup
from strongroom.catalog.queries import Page, newest_first
from strongroom.errors import InvalidRequest, NotFound
from strongroom.flows import (
    RestorePlan,
    find_backup,
    find_instance,
    plan_restore,
    request_backup,
    request_delete_backup,
    request_import,
    request_restore_from,
    request_verify,
    version_id,
)
from strongroom.identity import authorize

router = APIRouter(tags=["backups"])


class OnePlan(View):
    """Reply about a plan."""

    plan: RestorePlan


@router.post("/backups", status_code=202)
def create(body: CreateBackup, caller: CallerDep, control: ControlDep, response: Response) -> OneBackup:
    """Take a backup, or record one that is there already (RESTORED at once), or import one of another program."""
    wish = body.backup
    if wish.restore_from is not None:
        recorded = request_restore_from(
            control,
            caller.project,
            name=wish.name,
            description=wish.description or None,
            location=wish.restore_from.remote_location,
            version=wish.restore_from.local_datastore_version_id,
            size=wish.restore_from.size,
            admin=caller.principal.is_admin,
        )
        return OneBackup(backup=backup_view(recorded, None, restorable=True))
    if wish.import_from is not None:
        row, job = request_import(
            control,
            caller.project,
            name=wish.name,
            description=wish.description or None,
            location=wish.import_from.location,
            datastore=wish.import_from.datastore or None,
            version=wish.import_from.datastore_version or None,
            parent=wish.parent_id or None,
            admin=caller.principal.is_admin,
            paths=caller.may_operate(),
        )
        response.headers[JOB_HEADER] = job.id
        return OneBackup(backup=backup_view(row, job.id, restorable=False))
    if wish.storage_driver == "cinder":
        raise InvalidRequest("storage_driver cinder is not supported", remedy="Leave it out.")
    if not wish.instance:
        raise InvalidRequest("instance is missing.", remedy="Name the instance to back up.")
    row, job = request_backup(
        control,
        caller.owner(control, "instance", wish.instance),
        instance=wish.instance,
        name=wish.name,
        description=wish.description or None,
        container=wish.swift_container or None,
        parent=wish.parent_id or None,
        incremental=bool(wish.incremental),
        codec=wish.codec,
        damaged_pages=wish.damaged_pages,
    )
    response.headers[JOB_HEADER] = job.id
    return OneBackup(backup=backup_view(row, job.id, restorable=False))


@router.get("/backups", response_model=ManyBackups)
@looking
def index(
    request: Request,
    caller: CallerDep,
    control: ControlDep,
    page: PageDep,
    project: ListedDep,
    instance_id: Annotated[str | None, Query(description="Id or unique name.")] = None,
    datastore: Annotated[str | None, Query(description="Id or name.")] = None,
) -> Response:
    """Backups, newest first.

    The marker carries the instance along: the stock client forgets that filter after the first page.
    """
    marker, _, marked = (page.marker or "").partition("~")
    instance_id = marked or instance_id
    filters: dict[str, str] = {}
    with control.catalog.read() as session:
        if instance_id is not None:
            filters["instance_id"] = _instance_id(session, caller, instance_id)
        if datastore is not None:
            filters["datastore"] = _datastore(datastore)
        rows, following = newest_first(session, Backup, Page(page.limit, marker or None), project, filters)
        seen = ManyBackups(backups=backup_views(session, rows))
    if following:
        seen.links = next_links(request, page, f"{following}~{instance_id}" if instance_id else following)
    return reply(seen)


@router.get("/instances/{instance}/backups", response_model=ManyBackups)
@looking
def of_instance(instance: Segment, request: Request, caller: CallerDep, control: ControlDep, page: PageDep) -> Response:
    """Backups of one instance, newest first."""
    with control.catalog.read() as session:
        owner = find_instance(session, caller.project, instance)
        rows, marker = newest_first(session, Backup, page, owner.project, {"instance_id": owner.id})
        seen = ManyBackups(backups=backup_views(session, rows))
    if marker:
        seen.links = next_links(request, page, marker)
    return reply(seen)


@router.get("/backups/{backup}", response_model=OneBackup)
@looking
def show(backup: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """One backup, by id or unique name."""
    with control.catalog.read() as session:
        row = find_backup(session, caller.project, backup)
        (seen,) = backup_views(session, [row])
    return reply(OneBackup(backup=seen.model_copy(update={"profile": row.profile})))


@router.get("/backups/{backup}/restore-plan")
async def plan(
    backup: Segment,
    caller: CallerDep,
    control: ControlDep,
    instance: Annotated[str | None, Query(description="Restore in place of this instance: id or unique name.")] = None,
    host: Annotated[
        str | None, Query(description="Host of the new instance, for administrators. Default: where the service would put it.")
    ] = None,
    flavor: Annotated[str | None, Query(description="Flavor of the new instance. Default: the service's.")] = None,
    size: Annotated[int | None, Query(ge=1, lt=10**9, description="GB of the new instance. Default: what it needs.")] = None,
    tablespace: Annotated[list[Name], Query(description="PostgreSQL: those that get a directory of their own.")] = [],  # noqa: B006
) -> OnePlan:
    """Extension: what a restore would do; nothing is begun."""
    if instance is not None and not (host is None and flavor is None and size is None):
        raise InvalidRequest(
            "a restore in place has its host, flavor and size already", remedy="Leave host, flavor and size out."
        )
    if host is not None:
        authorize(caller.principal, "POST /instances host")
    plan = await plan_restore(
        control, caller.project, backup, instance=instance, host=host, flavor=flavor, size=size, tablespaces=tablespace
    )
    return OnePlan(plan=plan if caller.principal.is_admin else plan.model_copy(update={"host": None}))


@router.delete("/backups/{backup}", status_code=202)
def delete(
    backup: Segment,
    caller: CallerDep,
    control: ControlDep,
    cascade: Annotated[bool, Query(description="Extension: also delete the backups that stand on it.")] = False,
) -> Response:
    """Delete a backup. One that others stand on is refused (409) unless ``cascade`` is given; a running one is 422."""
    return accepted(request_delete_backup(control, caller.project, backup, cascade=cascade))


@router.post("/backups/{backup}/action", status_code=202)
def act(backup: Segment, body: BackupAction, caller: CallerDep, control: ControlDep) -> Response:
    """Verify a backup."""
    wish = body.verify
    if wish is None or body.model_extra:
        raise InvalidRequest("the body must name one action", remedy="The action is verify.")
    job = request_verify(
        control, caller.project, backup, prepare=wish.prepare, start=wish.start, chain=wish.chain, quick=wish.quick
    )
    return accepted(job)


def _instance_id(session: Session, caller: Caller, ref: str) -> str:
    """Backups outlive their instance, so an id that no living instance has is good too."""
    try:
        return find_instance(session, caller.project, ref).id
    except NotFound:
        return ref


def _datastore(ref: str) -> str:
    for name in datastores.names():
        if ref in (name, version_id(name)):
            return name
    raise NotFound(f"datastore {ref} cannot be found", remedy="See `strongroom datastore list`.")
