"""The commands ``strongroom restore-point …``."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom.cli.commands.instance import Name
from strongroom.cli.output.columns import Column
from strongroom.cli.output.remarks import note
from strongroom.cli.session import Session, command

app = typer.Typer(no_args_is_help=True, help="Restore points: named moments in the log of a PostgreSQL server.")

SHOW = [
    Column("Name", "name"),
    Column("Position", "position"),
]


@command(app, "create", example="strongroom restore-point create orders before-release")
def create(
    session: Session,
    instance: Name,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the restore point, at most 63 bytes.")],
) -> None:
    """Write a named restore point into the log of a PostgreSQL server. Other databases have none: note the time instead."""
    body = {"restore_point": {"name": name}}
    found = session.client.post("instances", instance, "restore-points", json=body).body["restore_point"]
    session.output.record(found, SHOW)
    note(f"When its log is archived: `strongroom restore --instance {instance} --to point:{name} --name NEW`.")
