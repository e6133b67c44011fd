"""The commands ``strongroom job …``."""

from __future__ import annotations

import heapq
from enum import StrEnum
from typing import Annotated, Any

import typer

from strongroom.cli.connection.completion import complete_names
from strongroom.cli.filters import Filters, Since, Sort, Until
from strongroom.cli.output.columns import Column, JobId, Look, When
from strongroom.cli.output.progress import Meter, format_figures
from strongroom.cli.output.progress import follow as follow_job
from strongroom.cli.output.remarks import note
from strongroom.cli.output.values import format_duration, format_size
from strongroom.cli.session import AllProjects, Session, Wait, command
from strongroom.errors import NotFound

app = typer.Typer(no_args_is_help=True, help="Jobs: list, follow, cancel.")

Id = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, or its last 8 characters.")]


class Status(StrEnum):
    """States of a job."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


class Progress(Column):
    """Progress of a job, from several fields of its view."""

    def text(self, item: Any, _look: Look) -> str:
        return "" if item["finished"] else format_figures(item, Meter())


LIST = [
    Column("Kind", "kind"),
    Column("Instance", "instance_name"),
    Column("Backup", "backup_name", rank=1),
    Column("Status", "status"),
    Column("Phase", "phase", rank=6),
    Progress("Progress", "done", rank=5, cut=True),
    Column("Took", "seconds", format_duration, right=True, rank=3),
    Column("Asked by", "asked_by", rank=4),
    When("Created", "created"),
    Column("Error", "fault.message", rank=2, cut=True),
    JobId("ID", "id"),
]
SHOW = [
    Column("ID", "id"),
    Column("Kind", "kind"),
    Column("Status", "status"),
    Column("Fault", "fault.message"),
    Column("Remedy", "fault.remedy"),
    Column("Message", "message"),
    Column("Phase", "phase"),
    Column("Done", "done", format_size),
    Column("Total", "total", format_size),
    Column("Stored", "stored", format_size),
    Column("Attempts", "attempts"),
    Column("Instance", "instance_name"),
    Column("Instance ID", "instance_id"),
    Column("Backup", "backup_name"),
    Column("Backup ID", "backup_id"),
    Column("Asked by", "asked_by"),
    Column("Took", "seconds", format_duration),
    When("Created", "created"),
    When("Started", "started"),
    When("Finished", "finished"),
]


@command(
    app,
    "list",
    example="strongroom job list --status running\nstrongroom job list --kind backup --status failed --since 7d",
)
def list_(
    session: Session,
    instance: Annotated[
        str | None,
        typer.Option("--instance", "-i", help="Only this instance: name or id.", autocompletion=complete_names("instances")),
    ] = None,
    backup: Annotated[
        str | None, typer.Option(help="Only this backup: name or id.", autocompletion=complete_names("backups"))
    ] = None,
    status: Annotated[Status | None, typer.Option(help="Only this status.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind, such as backup or restore; may be repeated.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of rows.")] = 50,
    sort: Sort = None,
    all_projects: AllProjects = False,
) -> None:
    """List jobs, newest first."""
    filters = Filters.given(since, until, limit, sort)
    query: dict[str, Any] = {"instance_id": instance, "backup_id": backup, "status": status.value if status else None}
    columns = [Column("Project", "project_id"), *LIST] if all_projects else LIST
    query |= {"limit": filters.page} | ({"all_projects": True} if all_projects else {})
    kinds: set[str | None] = {each.lower() for each in kind or ()} or {None}
    lists = [session.client.items("jobs", **query, kind=each) for each in kinds]  # the service knows the kinds
    found = filters.apply(heapq.merge(*lists, key=lambda job: (job["created"], job["id"]), reverse=True), columns)
    if not found and instance is not None and not session.client.exists("instances", instance):
        raise NotFound(f"there is no instance {instance}, and no job on one", remedy="See `strongroom instance list`.")
    session.output.rows(found, columns, noun="jobs")


@command(app, "show", example="strongroom job show 4b6f0e0a-8a5d-4b52-9b0d-0f5b8f3c2a11")
def show(session: Session, job: Id) -> None:
    """Show one job."""
    session.output.record(session.client.get("jobs", job)["job"], SHOW)


@command(app, "follow", example="strongroom job follow 4b6f0e0a-8a5d-4b52-9b0d-0f5b8f3c2a11")
def follow(session: Session, job: Id) -> None:
    """Show the progress of a job until it ends. Exits with 1 if the job fails."""
    session.output.record(follow_job(session.client, job), SHOW)


@command(app, "cancel", example="strongroom job cancel 4b6f0e0a-8a5d-4b52-9b0d-0f5b8f3c2a11")
def cancel(session: Session, job: Id, wait: Wait = True) -> None:
    """Cancel a job. Everything it wrote is removed."""
    session.client.delete("jobs", job)
    if wait:
        *_, view = session.client.watch(job)
        if view["status"] != "cancelled":
            note(f"The job had already {view['status']}.")
        session.output.record(view, SHOW)
