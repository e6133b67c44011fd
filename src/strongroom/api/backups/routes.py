"""``/backups``: take, list, show, verify, delete; also ``/instances/{instance}/backups``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import ConfigDict, Field
from sqlalchemy.orm import Session

from strongroom import datastores
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
    Body,
    Container,
    Flag,
    Link,
    Location,
    Name,
    OwnBody,
    Ref,
    Segment,
    View,
    gigabytes,
    iso,
    naive,
)
from strongroom.artifact import Level, Pages
from strongroom.catalog import Backup
from strongroom.catalog.queries import Page, broken_chains, damaged_pages, newest_first, newest_jobs
from strongroom.errors import InvalidRequest, NotFound
from strongroom.flows import (
    RestorePlan,
    explain_broken,
    find_backup,
    find_instance,
    level_of,
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


class RestoreFrom(Body):
    """A backup that is in the store already."""

    remote_location: Location = Field(description="`locationRef` of it where it was taken; only container and object count.")
    local_datastore_version_id: Ref = Field(description="Id (or name) of the datastore version that it is of.")
    size: float = Field(strict=True, gt=0, lt=10**9, allow_inf_nan=False, description="GB, as it shall be told.")


class ImportFrom(OwnBody):
    """A backup of Trove or Kolla. It stays where and as it is, and is read once."""

    location: Location = Field(description="`container/object`, a URL of this store, or, for the operator, a path of the host.")
    datastore: Ref = Field("", description="Id or name. Default: that of the service.")
    datastore_version: Ref = Field("", description="Id, series (10.11) or full version. Default: the newest there is.")


class BackupWish(Body):
    """A backup to take."""

    name: Name
    instance: Ref = Field("", description="Id or unique name.")
    description: Name = ""
    parent_id: Ref = Field("", description="Take an incremental on this backup: id or unique name.")
    incremental: Flag = Field(0, description="1: an incremental on the newest usable backup; when there is none, a full.")
    swift_container: Container = ""
    storage_driver: Any = None
    restore_from: RestoreFrom | None = Field(None, description="Record a backup of another region; nothing else is looked at.")
    import_from: ImportFrom | None = Field(None, description="Extension: take in a backup of Trove or Kolla.")
    codec: Literal["zstd", "gzip"] | None = Field(None, description="Extension: how segments are compressed.")
    damaged_pages: Literal["fail", "warn"] = Field(
        "warn", description="Extension: whether pages of the database with wrong checksums fail the backup (PostgreSQL)."
    )


class CreateBackup(Body):
    """Body of a create."""

    backup: BackupWish


class Verify(OwnBody):
    """How far to go. By default all backups of the chain are read, up to the one that is named."""

    chain: bool = Field(True, description="Also read the backups that it is based on.")
    quick: bool = Field(False, description="Only compare the sizes of all objects; nothing is read.")
    prepare: bool = Field(False, description="Also restore the chain into a scratch directory.")
    start: bool = Field(True, description="With `prepare`: start a private server there that reads every table.")


class BackupAction(Body):
    """Exactly one of these."""

    model_config = ConfigDict(extra="allow")

    verify: Verify | None = Field(None, description="Extension: read every segment and check every hash.")


class DatastoreOfBackup(View):
    """What it is a backup of."""

    type: str
    version: str
    version_id: str


class FaultOfBackup(View):
    """Why it failed."""

    code: str
    message: str
    remedy: str


class Verified(View):
    """The result of a verification that counts: the newest, unless one that looked more closely found damage."""

    at: str
    ok: bool = Field(description="It, and all backups that it is based on, are good.")
    level: Level = Field(
        description="How closely it looked: sizes of all objects; content (every byte); prepared (the chain was restored in "
        "scratch space); tables (a private server read every table there)."
    )
    links: int = Field(description="Backups of the chain that were looked at.")
    stored_size: int | None = Field(description="Bytes in the store that were looked at; null in older results.")
    prepared: bool = Field(description="The chain was restored in scratch space, too.")
    tables: int | None = Field(description="Tables that a private server read there; null when none was started.")
    message: str | None


class BackupView(View):
    """A backup; every field is always there."""

    id: str
    name: str
    description: str | None
    instance_id: str | None
    project_id: str
    parent_id: str | None
    status: str = Field(
        description="NEW, BUILDING, COMPLETED, FAILED; RESTORED: a record of what others wrote; DELETING, DELETE_FAILED."
    )
    locationRef: str | None
    size: float | None = Field(description="GB of data that were backed up: what a volume must hold to restore it.")
    created: str
    updated: str
    datastore: DatastoreOfBackup
    instance_name: str = Field(description="Extension, as are all that follow.")
    cluster_id: str | None = Field(description="The cluster that it is a backup of; the instance is the node.")
    kind: str = Field(description="full or incremental.")
    container: str
    chain_id: str = Field(description="Id of the full that it stands on.")
    pages: Pages | None = Field(
        description="What the checksums of the pages of the database said when it was taken; null where it has none."
    )
    damaged_pages: int = Field(
        description="Pages of the database that were damaged when it, or a backup that it is based on, was taken."
    )
    data_size: int | None = Field(description="Bytes in the data directory.")
    raw_size: int | None = Field(description="Bytes of the stream.")
    stored_size: int | None = Field(description="Bytes in the store.")
    codec: str
    encrypted: bool
    started: str | None
    finished: str | None
    seconds: float | None
    profile: dict[str, Any] | None = Field(
        description="What a restore depends on at the source. Null in lists, and where it is not known."
    )
    reason: str | None = Field(description="Why a full was taken where an incremental was asked for.")
    fault: FaultOfBackup | None
    verified: Verified | None
    positions: dict[str, Any] | None = Field(description="Where in the history of the server it stands.")
    protected: bool = Field(description="It cannot be deleted until this is taken back.")
    restorable: bool = Field(
        description="It and all that it is based on are COMPLETED or RESTORED, and no verification found one of them damaged."
    )
    unrestorable_reason: str | None = Field(description="Why it cannot be restored; null while it can, and while it is taken.")
    job_id: str | None = Field(description="The newest job about it.")


class OneBackup(View):
    """Reply about one backup."""

    backup: BackupView


class OnePlan(View):
    """Reply about a plan."""

    plan: RestorePlan


class ManyBackups(View):
    """Reply with a page of backups."""

    backups: list[BackupView]
    links: list[Link] = Field(default_factory=list)


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
        return OneBackup(backup=_view(recorded, None, restorable=True))
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
        return OneBackup(backup=_view(row, job.id, restorable=False))
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
    return OneBackup(backup=_view(row, job.id, restorable=False))


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
        seen = ManyBackups(backups=_views(session, rows))
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
        seen = ManyBackups(backups=_views(session, rows))
    if marker:
        seen.links = next_links(request, page, marker)
    return reply(seen)


@router.get("/backups/{backup}", response_model=OneBackup)
@looking
def show(backup: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """One backup, by id or unique name."""
    with control.catalog.read() as session:
        row = find_backup(session, caller.project, backup)
        (seen,) = _views(session, [row])
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


def _views(session: Session, rows: Sequence[Backup]) -> list[BackupView]:
    jobs = newest_jobs(session, Backup, [row.id for row in rows])
    broken = broken_chains(session, [row for row in rows if row.status not in Backup.RUNNING])
    reasons = explain_broken(session, broken) if broken else {}
    damaged = damaged_pages(session, rows)
    return [
        _view(
            row,
            jobs.get(row.id),
            restorable=row.id not in broken and row.status not in Backup.RUNNING,
            reason=reasons.get(row.id),
            is_parent_bad=broken.get(row.id, row.id) != row.id,
            damaged=damaged.get(row.id, 0),
        )
        for row in rows
    ]


def _view(
    row: Backup,
    job_id: str | None,
    *,
    restorable: bool,
    reason: str | None = None,
    is_parent_bad: bool = False,
    damaged: int = 0,
) -> BackupView:
    fault, verified = row.fault, row.verified
    return BackupView(
        id=row.id,
        name=row.name,
        description=row.description,
        instance_id=row.instance_id,
        project_id=row.project,
        parent_id=row.parent_id,
        status=row.status,
        locationRef=row.location,
        size=gigabytes(row.data_size),
        created=naive(row.created),
        updated=naive(row.updated),
        datastore=DatastoreOfBackup(type=row.datastore, version=row.series, version_id=version_id(row.datastore, row.series)),
        instance_name=row.instance_name,
        cluster_id=row.cluster_id,
        kind=row.kind,
        container=row.container,
        chain_id=row.chain_id,
        pages=Pages.model_validate(row.pages) if row.pages else None,
        damaged_pages=damaged,
        data_size=row.data_size,
        raw_size=row.raw_size,
        stored_size=row.stored_size,
        codec=row.codec,
        encrypted=row.encrypted,
        started=iso(row.started),
        finished=iso(row.finished),
        seconds=round((row.finished - row.started).total_seconds(), 3) if row.started and row.finished else None,
        profile=None,
        reason=row.reason,
        fault=FaultOfBackup(code=fault["code"], message=fault["message"], remedy=fault.get("remedy", "")) if fault else None,
        verified=_verified(verified, reason if is_parent_bad else None) if verified else None,
        positions=row.positions,
        protected=row.protected,
        restorable=restorable,
        unrestorable_reason=reason,
        job_id=job_id,
    )


def _verified(result: Mapping[str, Any], parent: str | None) -> Verified:
    """``parent``: why a backup that it is based on cannot be restored, which makes the best result of its own a bad one."""
    return Verified(
        at=result["at"].replace("+00:00", "Z"),
        ok=result["ok"] and parent is None,
        level=level_of(dict(result)),
        links=result.get("links", 1),
        stored_size=result.get("stored_size"),
        prepared=result["prepared"],
        tables=result.get("tables"),
        message=parent if result["ok"] and parent is not None else result["message"],
    )
