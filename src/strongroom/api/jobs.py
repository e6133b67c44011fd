"""``/jobs``, an extension: list, follow and cancel jobs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from sqlalchemy.orm import Session

from strongroom.api.http.caller import (
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
from strongroom.api.http.fields import Link, Segment, View, format_iso
from strongroom.catalog import Job, now
from strongroom.catalog.queries import backup_names, newest_first
from strongroom.errors import NotFound
from strongroom.flows import Site, find_backup, find_instance, request_cancel, wait_job
from strongroom.flows.kind import list_kinds

router = project_router("jobs")

MAX_WAIT = 60.0


class FaultOfJob(View):
    """Why it failed."""

    code: str
    message: str
    remedy: str


class JobView(View):
    """A job. Byte counts are of the current phase."""

    id: str
    project_id: str
    kind: str
    status: str = Field(description="queued, running, succeeded, failed, cancelled.")
    host: str | None = Field(description="Null unless the caller is an administrator.")
    instance_id: str | None
    instance_name: str
    backup_id: str | None
    backup_name: str = Field(description="Empty if it concerns no backup.")
    asked_by: str = Field(
        description="The user who requested it, or the policy that scheduled it (`policy gold`); empty: the service."
    )
    cluster_id: str | None
    phase: str
    done: int
    total: int | None
    stored: int
    message: str | None
    events: int = Field(description="Counter of changes; pass it as `after` to wait for the next.")
    attempts: int
    created: str
    started: str | None
    finished: str | None
    seconds: float | None = Field(description="Run time in seconds.")
    fault: FaultOfJob | None
    output: dict[str, Any]


class OneJob(View):
    """Reply about one job."""

    job: JobView


class ManyJobs(View):
    """Reply with a page of jobs."""

    jobs: list[JobView]
    links: list[Link] = Field(default_factory=list)


@router.get("/jobs", response_model=ManyJobs)
@reads_catalog
def index(
    request: Request,
    caller: CallerDep,
    control: ControlDep,
    page: PageDep,
    project: ListedDep,
    instance_id: Annotated[str | None, Query(description="Id or unique name.")] = None,
    backup_id: Annotated[str | None, Query(description="Id or unique name.")] = None,
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"] | None = None,
    kind: Annotated[str | None, Query(description="Kind of job.")] = None,
) -> Response:
    """Jobs of the project, newest first."""
    filters: dict[str, str] = {}
    if kind is not None:
        filters["kind"] = require_known_value("kind", kind, list_kinds())
    with control.catalog.read() as session:
        if instance_id is not None:
            filters["instance_id"] = _id(session, caller, find_instance, instance_id)
        if backup_id is not None:
            filters["backup_id"] = _id(session, caller, find_backup, backup_id)
        if status is not None:
            filters["status"] = status
        rows, marker = newest_first(session, Job, page, project, filters)
        names = backup_names(session, rows)
    seen = ManyJobs(jobs=[_view(row, names, caller) for row in rows])
    if marker:
        seen.links = make_next_links(request, page, marker)
    return reply(seen)


@router.get("/jobs/{job}", response_model=OneJob)
async def show(
    job: Segment,
    caller: CallerDep,
    control: ControlDep,
    wait: Annotated[
        float, Query(ge=0, le=MAX_WAIT, description="Seconds to wait for more than `after` events or the end of the job.")
    ] = 0,
    after: Annotated[int, Query(ge=-1)] = -1,
) -> Response:
    """One job; with ``wait``, the reply is sent when it changes."""
    row = await wait_job(control, caller.project, job, after=after, seconds=wait)
    return reply(OneJob(job=_view(row, await run_in_threadpool(_names, control, row), caller)))


@router.delete("/jobs/{job}", status_code=202)
def cancel(job: Segment, caller: CallerDep, control: ControlDep) -> Response:
    """Cancel a job."""
    return accepted(request_cancel(control, caller.project, job))


def _id(session: Session, caller: Caller, find: Any, ref: str) -> str:
    """Jobs outlive instances and backups, so ids of deleted ones are valid."""
    try:
        return str(find(session, caller.project, ref).id)
    except NotFound:
        return ref


def _names(control: Site, row: Job) -> dict[str, str]:
    with control.catalog.read() as session:
        return backup_names(session, [row])


def _view(row: Job, names: dict[str, str], caller: Caller) -> JobView:
    fault = row.fault
    end = row.finished or now()
    return JobView(
        id=row.id,
        project_id=row.project,
        kind=row.kind,
        status=row.status,
        host=row.host if caller.principal.is_admin else None,
        instance_id=row.instance_id,
        instance_name=row.instance_name,
        backup_id=row.backup_id,
        backup_name=names.get(row.backup_id or "", ""),
        asked_by=row.asked_by,
        cluster_id=row.cluster_id,
        phase=row.phase,
        done=row.done,
        total=row.total,
        stored=row.stored,
        message=row.message,
        events=row.events,
        attempts=row.attempts,
        created=format_iso(row.created),
        started=format_iso(row.started),
        finished=format_iso(row.finished),
        seconds=round((end - row.started).total_seconds(), 3) if row.started else None,
        fault=FaultOfJob(code=fault["code"], message=fault["message"], remedy=fault.get("remedy", "")) if fault else None,
        output=row.output,
    )
