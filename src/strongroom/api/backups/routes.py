"""``/backups``: take, list, show, verify, delete; also ``/instances/{instance}/backups``."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Query, Request, Response
from sqlalchemy.orm import Session

from strongroom import datastores
from strongroom.api.backups.requests import BackupAction, CreateBackup
from strongroom.api.backups.views import ManyBackups, OneBackup, make_backup_view, make_backup_views
from strongroom.api.http.caller import (
    JOB_HEADER,
    Caller,
    CallerDep,
    ControlDep,
    ListedDep,
    PageDep,
    accepted,
    make_next_links,
    project_router,
    reads_catalog,
    reply,
    require_known_value,
)
from strongroom.api.http.fields import (
    Segment,
    View,
)
from strongroom.api.http.placement import PlacementDep
from strongroom.catalog import Backup
from strongroom.catalog.queries import Page, newest_first
from strongroom.errors import InvalidRequest, NotFound
from strongroom.flows import (
    RestorePlan,
    find_backup,
    find_instance,
    plan_restore,
    undelete_backup,
    version_id,
)
from strongroom.flows.backups.options import BackupOptions
from strongroom.flows.kinds.backup import request_backup
from strongroom.flows.kinds.deletion import discard_backup, request_delete_backup
from strongroom.flows.kinds.foreign import request_import, request_restore_from
from strongroom.flows.kinds.label import hold_backup, release_backup
from strongroom.flows.kinds.verify import request_verify
from strongroom.flows.status import BACKUPS, CREATED

router = project_router("backups")

_STATUSES = [state for state in BACKUPS.states if state not in (CREATED, "DELETED")]


Trashed = Annotated[bool, Query(description="Extension: also backups that were deleted and are still in the store.")]


class OnePlan(View):
    """Reply about a plan."""

    plan: RestorePlan


@router.post("/backups", status_code=202)
def create(body: CreateBackup, caller: CallerDep, control: ControlDep, response: Response) -> OneBackup:
    """Take a backup, register an existing one (status RESTORED immediately), or import one by another program."""
    requested = body.backup
    if requested.restore_from is not None:
        recorded = request_restore_from(
            control,
            caller.project,
            name=requested.name,
            description=requested.description or None,
            location=requested.restore_from.remote_location,
            version=requested.restore_from.local_datastore_version_id,
            size=requested.restore_from.size,
            admin=caller.principal.is_admin,
        )
        return OneBackup(backup=make_backup_view(recorded, None, restorable=True))
    if requested.import_from is not None:
        row, job = request_import(
            control,
            caller.project,
            name=requested.name,
            description=requested.description or None,
            location=requested.import_from.location,
            datastore=requested.import_from.datastore or None,
            version=requested.import_from.datastore_version or None,
            parent=requested.parent_id or None,
            admin=caller.principal.is_admin,
            paths=caller.may_operate(),
        )
        response.headers[JOB_HEADER] = job.id
        return OneBackup(backup=make_backup_view(row, job.id, restorable=False))
    if requested.storage_driver == "cinder":
        raise InvalidRequest("storage_driver cinder is not supported", remedy="Leave it out.")
    if not requested.instance:
        raise InvalidRequest("instance is missing.", remedy="Name the instance to back up.")
    row, job = request_backup(
        control,
        caller.owner(control, "instance", requested.instance),
        requested.instance,
        BackupOptions(
            name=requested.name,
            description=requested.description or None,
            container=requested.swift_container or None,
            parent=requested.parent_id or None,
            incremental=bool(requested.incremental),
            codec=requested.codec,
            damaged_pages=requested.damaged_pages,
        ),
    )
    response.headers[JOB_HEADER] = job.id
    return OneBackup(backup=make_backup_view(row, job.id, restorable=False))


@router.get("/backups", response_model=ManyBackups)
@reads_catalog
def index(
    request: Request,
    caller: CallerDep,
    control: ControlDep,
    page: PageDep,
    project: ListedDep,
    instance_id: Annotated[str | None, Query(description="Id or unique name.")] = None,
    datastore: Annotated[str | None, Query(description="Id or name.")] = None,
    status: Annotated[str | None, Query(description="Extension.")] = None,
    kind: Annotated[Literal["full", "incremental"] | None, Query(description="Extension.")] = None,
    trashed: Trashed = False,
) -> Response:
    """Backups, newest first.

    The marker includes the instance, because the stock client drops that filter after the first page.
    """
    marker, _, marked = (page.marker or "").partition("~")
    instance_id = marked or instance_id
    filters: dict[str, str | bool | None] = {} if kind is None else {"kind": kind}
    if not trashed:
        filters["trashed"] = False
    if status is not None:
        filters["status"] = require_known_value(
            "status", status, [state for state in BACKUPS.states if state not in (CREATED, "DELETED")]
        )
    with control.catalog.read() as session:
        if instance_id is not None:
            filters["instance_id"] = _instance_id(session, caller, instance_id)
        if datastore is not None:
            filters["datastore"] = _datastore(datastore)
        rows, following = newest_first(session, Backup, Page(page.limit, marker or None), project, filters)
        seen = ManyBackups(backups=make_backup_views(session, rows))
    if following:
        seen.links = make_next_links(request, page, f"{following}~{instance_id}" if instance_id else following)
    return reply(seen)


@router.get("/instances/{instance}/backups", response_model=ManyBackups)
@reads_catalog
def of_instance(
    instance: Segment, request: Request, caller: CallerDep, control: ControlDep, page: PageDep, trashed: Trashed = False
) -> Response:
    """Backups of one instance, newest first."""
    with control.catalog.read() as session:
        owner = find_instance(session, caller.project, instance)
        filters = {"instance_id": owner.id} | ({} if trashed else {"trashed": False})
        rows, marker = newest_first(session, Backup, page, owner.project, filters)
        seen = ManyBackups(backups=make_backup_views(session, rows))
    if marker:
        seen.links = make_next_links(request, page, marker)
    return reply(seen)


@router.get("/backups/{backup}", response_model=OneBackup)
@reads_catalog
def show(backup: Segment, caller: CallerDep, control: ControlDep, trashed: Trashed = False) -> Response:
    """One backup, by id or unique name."""
    with control.catalog.read() as session:
        row = find_backup(session, caller.project, backup)
        if row.trashed and not trashed:
            raise NotFound(f"backup {backup} is deleted", remedy=f"Take it back: `strongroom backup undelete {row.id}`.")
        (seen,) = make_backup_views(session, [row])
    return reply(OneBackup(backup=seen.model_copy(update={"profile": row.profile})))


@router.get("/backups/{backup}/restore-plan")
async def plan(
    backup: Segment,
    caller: CallerDep,
    control: ControlDep,
    placement: PlacementDep,
    instance: Annotated[str | None, Query(description="Restore in place of this instance: id or unique name.")] = None,
) -> OnePlan:
    """Extension: plan a restore; changes nothing."""
    placement.check(caller, instance)
    plan = await plan_restore(
        control,
        caller.project,
        backup,
        instance=instance,
        host=placement.host,
        flavor=placement.flavor,
        size=placement.size,
        tablespaces=placement.tablespaces,
    )
    return OnePlan(plan=plan if caller.principal.is_admin else plan.model_copy(update={"host": None}))


@router.delete("/backups/{backup}", status_code=202)
def delete(
    backup: Segment,
    caller: CallerDep,
    control: ControlDep,
    cascade: Annotated[bool, Query(description="Extension: also delete the incrementals based on it.")] = False,
    now: Annotated[bool, Query(description="Extension: remove it from the store at once, without the grace period.")] = False,
) -> Response:
    """Delete a backup. Refused (409) if others are based on it, unless ``cascade`` is given, and (422) while it is running.

    It disappears from lists at once, but stays in the store until its grace period has ended; until then the action ``undelete``
    takes the deletion back.
    """
    delete = request_delete_backup if now else discard_backup
    return accepted(delete(control, caller.project, backup, cascade=cascade))


@router.post("/backups/{backup}/action", status_code=202)
def act(backup: Segment, body: BackupAction, caller: CallerDep, control: ControlDep) -> Response:
    """Verify a backup, hold it, release it, or take its deletion back."""
    if body.model_extra or len(body.model_fields_set) != 1:
        raise InvalidRequest("the body must name one action", remedy="The actions are verify, hold, release and undelete.")
    if body.hold is not None:
        hold_backup(control, caller.project, backup, reason=body.hold.reason, until=body.hold.until)
        return accepted()
    if body.release is not None:
        release_backup(control, caller.project, backup)
        return accepted()
    requested = body.verify
    if requested is None:
        undelete_backup(control, caller.project, backup)
        return accepted()
    job = request_verify(
        control,
        caller.project,
        backup,
        prepare=requested.prepare,
        start=requested.start,
        chain=requested.chain,
        quick=requested.quick,
    )
    return accepted(job)


def _instance_id(session: Session, caller: Caller, ref: str) -> str:
    """Backups outlive their instance, so the id of a deleted instance is valid."""
    try:
        return find_instance(session, caller.project, ref).id
    except NotFound:
        return ref


def _datastore(ref: str) -> str:
    for name in datastores.list_names():
        if ref in (name, version_id(name)):
            return name
    raise NotFound(f"datastore {ref} cannot be found", remedy="See `strongroom datastore list`.")
