"""The commands ``strongroom datastore list`` and ``strongroom flavor list``."""

from __future__ import annotations

import typer

from strongroom.cli.output.columns import Column
from strongroom.cli.output.values import format_size
from strongroom.cli.session import Session, command

datastore = typer.Typer(no_args_is_help=True, help="Installed databases.")
flavor = typer.Typer(no_args_is_help=True, help="Sizes of instances.")


@command(datastore, "list", example="strongroom datastore list")
def datastores(session: Session) -> None:
    """List the databases installed on the hosts, with their versions."""
    rows = [
        {**v, "datastore": d["name"], "default": v["id"] == d.get("default_version")}
        for d in session.client.get("datastores")["datastores"]
        for v in d["versions"]
    ]
    columns = [
        Column("Datastore", "datastore"),
        Column("Series", "name"),
        Column("Version", "version"),
        Column("Default", "default"),
        Column("ID", "id"),
    ]
    session.output.rows(rows, columns)


@command(flavor, "list", example="strongroom flavor list")
def flavors(session: Session) -> None:
    """List the flavors."""
    columns = [
        Column("Name", "name"),
        Column("Memory", "ram", lambda mb: format_size(mb * 1024**2), right=True),
        Column("Cores", "vcpus", right=True),
    ]
    session.output.rows(session.client.get("flavors")["flavors"], columns)
