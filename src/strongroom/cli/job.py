"""``strongroom job``: what the service is doing and has done."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from strongroom.cli._progress import Meter, figures
from strongroom.cli._progress import follow as follow_job
from strongroom.cli._render import Column, moment, note, size
from strongroom.cli._session import AllProjects, Session, Wait, command

app = typer.Typer(no_args_is_help=True, help="Jobs: what the service is doing and has done.")

Id = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]


class Status(StrEnum):
    """States of a job."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


class Progress(Column):
    """Where the job is, from several fields of its view."""

    def text(self, item: Any) -> str:
        return "" if item["finished"] else figures(item, Meter())


LIST = [
    Column("Kind", "kind"),
    Column("Instance", "instance_name"),
    Column("Status", "status"),
    Column("Phase", "phase"),
    Progress("Progress", "done"),
    Column("Created (UTC)", "created", moment),
    Column("ID", "id"),
]
SHOW = [
    Column("ID", "id"),
    Column("Kind", "kind"),
    Column("Status", "status"),
    Column("Fault", "fault.message"),
    Column("Remedy", "fault.remedy"),
    Column("Message", "message"),
    Column("Phase", "phase"),
    Column("Done", "done", size),
    Column("Total", "total", size),
    Column("Stored", "stored", size),
    Column("Attempts", "attempts"),
    Column("Instance", "instance_name"),
    Column("Instance ID", "instance_id"),
    Column("Backup ID", "backup_id"),
    Column("Created (UTC)", "created", moment),
    Column("Started (UTC)", "started", moment),
    Column("Finished (UTC)", "finished", moment),
]


@command(app, "list", example="strongroom job list --status running")
def list_(
    session: Session,
    instance: Annotated[str | None, typer.Option("--instance", "-i", help="Only on this instance: name or id.")] = None,
    backup: Annotated[str | None, typer.Option(help="Only about this backup: name or id.")] = None,
    status: Annotated[Status | None, typer.Option(help="Only in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    all_projects: AllProjects = False,
) -> None:
    """List jobs, the newest first."""
    query = {"instance_id": instance, "backup_id": backup, "status": status.value if status else None, "limit": limit}
    if all_projects:
        found = session.client.get("jobs", **query, all_projects=True)
        session.output.rows(found["jobs"], [Column("Project", "project_id"), *LIST])
    else:
        session.output.rows(session.client.get("jobs", **query)["jobs"], LIST)


@command(app, "show", example="strongroom job show 4b6f0e0a-8a5d-4b52-9b0d-0f5b8f3c2a11")
def show(session: Session, job: Id) -> None:
    """Show one job."""
    session.output.record(session.client.get("jobs", job)["job"], SHOW)


@command(app, "follow", example="strongroom job follow 4b6f0e0a-8a5d-4b52-9b0d-0f5b8f3c2a11")
def follow(session: Session, job: Id) -> None:
    """Show the progress of a job until it ends. Fails when the job does."""
    session.output.record(follow_job(session.client, job), SHOW)


@command(app, "cancel", example="strongroom job cancel 4b6f0e0a-8a5d-4b52-9b0d-0f5b8f3c2a11")
def cancel(session: Session, job: Id, wait: Wait = True) -> None:
    """End a job. What it has written is removed."""
    session.client.delete("jobs", job)
    if wait:
        *_, view = session.client.watch(job)
        if view["status"] != "cancelled":
            note(f"The job had {view['status']} before it could be cancelled.")
        session.output.record(view, SHOW)
