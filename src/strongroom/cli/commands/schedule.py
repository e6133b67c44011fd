"""The commands ``strongroom schedule …``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from strongroom.cli.connection.completion import complete_names
from strongroom.cli.filters import parse_time
from strongroom.cli.output.columns import Column, JobId, Look, When
from strongroom.cli.session import AllProjects, Session, command

app = typer.Typer(no_args_is_help=True, help="Schedules: what runs next, and what ran.")


class Missed(Column):
    """Why runs did not happen, or why one that is due does not begin yet."""

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        """The value for people."""
        if item["waiting"]:
            return f"waits: {item['waiting']}"
        missed = item["last_missed"]
        if missed:
            count = f"{missed['count']} runs" if missed["count"] > 1 else "1 run"
            return f"{count} missed: {missed['reason']}"
        last = item["last_run"]
        return str(last["reason"]) if last and last["outcome"] != "succeeded" else ""


class Due(When):
    """When a run was due; of several that were missed in a row, how many and until when."""

    def text(self, item: Mapping[str, Any], look: Look) -> str:
        """The value for people."""
        first = super().text(item, look)
        return f"{first} and {item['count'] - 1} more until {look.moment(item['last_due'])}" if item["count"] > 1 else first


class Outcome(StrEnum):
    """What became of a run."""

    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"
    missed = "missed"


LIST = [
    Column("Database", "database_name"),
    Column("Type", "database_type", rank=4),
    Column("Policy", "policy_name"),
    When("Next run", "next_run"),
    Column("Kind", "next_kind", rank=3),
    Column("Paused", "paused", rank=5),
    When("Last run", "last_run.due", rank=1),
    Column("Outcome", "last_run.outcome"),
    Missed("Note", "waiting", rank=2, cut=True),
]


RUNS = [
    Column("Database", "database_name"),
    Column("Policy", "policy_name", rank=1),
    Due("Due", "due"),
    Column("Kind", "kind", rank=3),
    Column("Outcome", "outcome"),
    Column("Reason", "reason", rank=2, cut=True),
    Column("Attempts", "attempts", right=True, rank=6),
    Column("By hand", "by_hand", rank=7),
    Column("Backup", "backup_name", rank=4),
    When("Finished", "finished", rank=5),
    JobId("Job", "job_id", rank=8),
]


@command(app, "list", example="strongroom schedule list\nstrongroom schedule list --policy gold --format json")
def list_(
    session: Session,
    policy: Annotated[
        str | None, typer.Option(help="Only of this policy: name or id.", autocompletion=complete_names("policies"))
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            help="Only of this instance or cluster: name or id.", autocompletion=complete_names("instances", "clusters")
        ),
    ] = None,
    all_projects: AllProjects = False,
) -> None:
    """List databases with a schedule: next run, last run and its outcome, why a run did not happen."""
    query: dict[str, Any] = {"policy": policy, "database": database} | ({"all_projects": True} if all_projects else {})
    columns = [Column("Project", "project_id"), *LIST] if all_projects else LIST
    session.output.rows(session.client.get("schedules", **query)["schedules"], columns, noun="schedules")


@command(
    app,
    "runs",
    example="strongroom schedule runs\nstrongroom schedule runs orders --outcome missed --since 30d\n"
    "strongroom schedule runs --policy gold --limit 10 --format json",
)
def runs(
    session: Session,
    database: Annotated[
        str | None,
        typer.Argument(
            metavar="INSTANCE",
            help="Only of this instance or cluster: name or id. Of a deleted one, the id.",
            autocompletion=complete_names("instances", "clusters"),
        ),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="Only of this policy: name or id.", autocompletion=complete_names("policies"))
    ] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="Only with this outcome.")] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only those that were due since: 2026-11-21, 2026-11-21T07:00 (UTC), or 3d, 12h."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of rows.")] = 50,
    all_projects: AllProjects = False,
) -> None:
    """List past runs of policies, also those that were missed, newest first. `job follow` follows one that is running."""
    after = parse_time(since, datetime.now(UTC)).isoformat() if since else None
    query: dict[str, Any] = {"policy": policy, "database": database, "outcome": outcome and outcome.value, "since": after}
    query |= {"limit": limit} | ({"all_projects": True} if all_projects else {})
    columns = [Column("Project", "project_id"), *RUNS] if all_projects else RUNS
    session.output.rows(session.client.get("schedules", "runs", **query)["runs"], columns, noun="runs")
