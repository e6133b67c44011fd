"""The commands ``strongroom schedule …``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from strongroom.cli.connection.completion import complete_names
from strongroom.cli.output.columns import Column, Look, When
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
