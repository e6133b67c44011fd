"""The commands ``strongroom strategy …``."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom.cli.output.columns import Column
from strongroom.cli.session import AllProjects, Session, command

app = typer.Typer(no_args_is_help=True, help="Backup strategies: the container for backups.")

COLUMNS = [
    Column("Instance ID", "instance_id"),
    Column("Container", "swift_container"),
    Column("Backend", "backend"),
    Column("Project", "project_id"),
]
Instance = Annotated[str | None, typer.Option("--instance", "-i", help="Only this instance: name or id. Default: all.")]


def _find_id(session: Session, instance: str | None) -> str | None:
    """Strategies are stored by id, and outlive names."""
    return session.client.get("instances", instance)["instance"]["id"] if instance else None


@command(app, "create", example="strongroom strategy create --instance mysql1 --container my-trove-backups")
def create(
    session: Session,
    container: Annotated[str, typer.Option(help="Container for backups.")],
    instance: Instance = None,
) -> None:
    """Set the container for the backups of an instance, or of the whole project."""
    found = _find_id(session, instance)
    body = {"swift_container": container, **({"instance_id": found} if found else {})}
    reply = session.client.post("backup_strategies", json={"backup_strategy": body})
    session.output.record(reply.body["backup_strategy"], COLUMNS)


@command(app, "list", example="strongroom strategy list")
def list_(session: Session, instance: Instance = None, all_projects: AllProjects = False) -> None:
    """List the strategies of the project."""
    query = {"all_projects": True} if all_projects else {}
    found = session.client.get("backup_strategies", instance_id=_find_id(session, instance), **query)
    session.output.rows(found["backup_strategies"], COLUMNS, noun="strategies")


@command(app, "delete", example="strongroom strategy delete --instance mysql1")
def delete(session: Session, instance: Instance = None) -> None:
    """Delete the strategy of an instance, or of the whole project. Existing backups are not moved."""
    session.client.delete("backup_strategies", instance_id=_find_id(session, instance))
