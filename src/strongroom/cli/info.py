"""``strongroom datastore|flavor|host list``: what the service offers, and where."""

from __future__ import annotations

from typing import Any

import typer

from strongroom.cli._render import Column, moment, size
from strongroom.cli._session import Session, command

datastore = typer.Typer(no_args_is_help=True, help="Databases that can be served.")
flavor = typer.Typer(no_args_is_help=True, help="Sizes of instances.")
host = typer.Typer(no_args_is_help=True, help="Machines that run the databases.")


def _versions(value: list[dict[str, Any]] | None) -> str:
    return ", ".join(f"{v['datastore']} {v['number']}" for v in value or [])


@command(datastore, "list", example="strongroom datastore list")
def datastores(session: Session) -> None:
    """List the databases and their versions that are installed on the hosts."""
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
    """List the sizes that an instance can have."""
    columns = [
        Column("Name", "name"),
        Column("Memory", "ram", lambda mb: size(mb * 1024**2), right=True),
        Column("Cores", "vcpus", right=True),
    ]
    session.output.rows(session.client.get("flavors")["flavors"], columns)


@command(host, "list", example="strongroom host list")
def hosts(session: Session) -> None:
    """List the machines, with their databases and free space."""
    columns = [
        Column("Name", "name"),
        Column("Hostname", "hostname"),
        Column("Status", "status"),
        Column("Databases", "versions", _versions),
        Column("Cores", "cores", right=True),
        Column("Memory", "memory_bytes", size, right=True),
        Column("Free", "free_bytes", size, right=True),
        Column("Jobs", "jobs_running", right=True),
        Column("Seen (UTC)", "last_seen", moment),
    ]
    session.output.rows(session.client.get("hosts")["hosts"], columns)
