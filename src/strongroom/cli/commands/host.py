"""The commands ``strongroom host …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from strongroom.cli.connection.completion import complete_names
from strongroom.cli.output.columns import Column, When
from strongroom.cli.output.remarks import note
from strongroom.cli.output.values import format_moment, format_size
from strongroom.cli.session import Session, Yes, command, confirm
from strongroom.errors import InvalidRequest

app = typer.Typer(no_args_is_help=True, help="Hosts: machines with an agent. Add, show, remove.")

Name = Annotated[str, typer.Argument(metavar="HOST", help="Name of the host.", autocompletion=complete_names("hosts"))]


def _format_versions(value: list[dict[str, Any]] | None) -> str:
    return ", ".join(f"{v['datastore']} {v['number']}" for v in value or [])


LIST = [
    Column("Name", "name"),
    Column("Hostname", "hostname", rank=5),
    Column("Status", "status"),
    Column("Databases", "versions", _format_versions, rank=2),
    Column("Cores", "cores", right=True, rank=4),
    Column("Memory", "memory_bytes", format_size, right=True, rank=3),
    Column("Free", "free_bytes", format_size, right=True),
    Column("Instances", "instances", right=True),
    Column("Jobs", "jobs_running", right=True, rank=1),
    When("Seen", "last_seen"),
]
SHOW = [
    Column("Name", "name"),
    Column("Hostname", "hostname"),
    Column("Status", "status"),
    Column("Problem", "problem"),
    When("Seen", "last_seen"),
    Column("Agent", "url"),
    Column("Embedded", "embedded"),
    Column("Version", "version"),
    Column("Databases", "versions", _format_versions),
    Column("Cores", "cores"),
    Column("Memory", "memory_bytes", format_size),
    Column("Free", "free_bytes", format_size),
    Column("Pool", "pool"),
    Column("Instances", "instances"),
    Column("Jobs", "jobs_running"),
]


@command(app, "list", example="strongroom host list")
def list_(session: Session) -> None:
    """List the hosts with their databases and free space."""
    session.output.rows(session.client.get("hosts")["hosts"], LIST, noun="hosts")


@command(app, "show", example="strongroom host show db1")
def show(session: Session, host: Name) -> None:
    """Show one host."""
    session.output.record(session.client.get("hosts", host)["host"], SHOW)


@command(app, "add", example="strongroom host add db1 --token-file db1.token")
def add(
    session: Session,
    host: Name,
    token_file: Annotated[Path | None, typer.Option(help="Write the token to this new file (mode 0600), not to stdout.")] = None,
) -> None:
    """Create a token with which a host joins once. A known host can join again with it, with new keys."""
    invitation = session.client.post("hosts", json={"host": {"name": host}}).body["invitation"]
    if token_file is None:
        print(invitation["token"])
    else:
        _write(token_file, invitation["token"])
    note(
        f"Run before {format_moment(invitation['expires'])} UTC on {host}: strongroom agent --control-plane URL --token-file FILE"
    )


@command(app, "remove", example="strongroom host remove db1")
def remove(
    session: Session,
    host: Name,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Remove the host even if it is unreachable and has instances; these are removed from the catalog."
        ),
    ] = False,
    yes: Yes = False,
) -> None:
    """Remove a host. The service stops contacting its agent. Backups of its instances remain."""
    if not yes:
        count = session.client.get("hosts", host)["host"]["instances"]
        what = f" and its {count} instances; their backups remain" if force and count else ""
        confirm(f"Remove host {host}{what}?", yes)
    session.client.delete("hosts", host, **({"force": "true"} if force else {}))


SERVERS = [
    Column("ID", "id"),
    Column("Name", "name"),
    Column("Datastore", "datastore"),
    Column("Version", "series"),
    Column("State", "state"),
    Column("Data", "data_bytes", format_size, right=True),
    Column("Directory", "data_dir"),
]


@command(app, "servers", example="strongroom host servers db1")
def servers(session: Session, host: Name) -> None:
    """List database servers of a host that belong to no instance, such as after `host remove --force`. They are not backed up."""
    session.output.rows(session.client.get("hosts", host, "servers")["servers"], SERVERS)


@command(app, "reclaim", example="strongroom host reclaim db1 mysql1")
def reclaim(
    session: Session, host: Name, server: Annotated[str, typer.Argument(metavar="SERVER", help="Id or name of the server.")]
) -> None:
    """Turn an unknown server into an instance again: its former one, or a new one in your project."""
    instance = session.client.post("hosts", host, "servers", server, "reclaim", json={}).body["instance"]
    note(f"The server is now instance {instance['name']} ({instance['id']}).")


@command(app, "stop", example="strongroom host stop db1 mysql1")
def stop(
    session: Session,
    host: Name,
    server: Annotated[str, typer.Argument(metavar="SERVER", help="Id or name of the server.")],
    yes: Yes = False,
) -> None:
    """Stop a server that belongs to no instance. Its data is not changed."""
    confirm(f"Stop server {server} of host {host}?", yes)
    session.client.post("hosts", host, "servers", server, "stop", json={})


def _write(path: Path, token: str) -> None:
    from strongroom.system.files import create_file  # few commands need it

    try:
        create_file(path, token + "\n")
    except FileExistsError as error:
        raise InvalidRequest(f"{path} exists already", remedy="Name a file that does not exist.") from error
