"""The commands ``strongroom db …``."""

from __future__ import annotations

from typing import Annotated

import typer

from strongroom.cli.commands.instance import Name
from strongroom.cli.output.columns import Column
from strongroom.cli.session import Session, Yes, command, confirm

app = typer.Typer(no_args_is_help=True, help="Databases of an instance.")


@command(app, "list", example="strongroom db list mysql1")
def list_(session: Session, instance: Name) -> None:
    """List the databases, without system databases."""
    found = session.client.pages("instances", instance, "databases")
    session.output.rows(found, [Column("Name", "name")], noun="databases")


@command(app, "create", example="strongroom db create mysql1 shop --character-set utf8mb4")
def create(
    session: Session,
    instance: Name,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the new database.")],
    character_set: Annotated[str | None, typer.Option(help="Default character set of its tables.")] = None,
    collate: Annotated[str | None, typer.Option(help="Default collation of its tables.")] = None,
) -> None:
    """Create a database."""
    terms = {"name": name, "character_set": character_set, "collate": collate}
    given = {key: value for key, value in terms.items() if value is not None}
    session.client.post("instances", instance, "databases", json={"databases": [given]})


@command(app, "delete", example="strongroom db delete mysql1 shop")
def delete(
    session: Session,
    instance: Name,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the database.")],
    yes: Yes = False,
) -> None:
    """Delete a database with all its tables."""
    confirm(f"Delete database {name} of {instance} with all its tables?", yes)
    session.client.delete("instances", instance, "databases", name)
