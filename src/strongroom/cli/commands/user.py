"""The commands ``strongroom user …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from strongroom.cli.commands.instance import Name
from strongroom.cli.connection.password import read_new_password
from strongroom.cli.output.columns import Column
from strongroom.cli.session import Session, Yes, command, confirm

app = typer.Typer(no_args_is_help=True, help="Users of an instance, and the databases they may use.")

User = Annotated[str, typer.Argument(metavar="USER", help="Name of the user.")]
Host = Annotated[str, typer.Option(help="Host from which the user may connect; % is any host.")]
Databases = Annotated[list[str], typer.Argument(metavar="DATABASE...", help="Databases.")]


def _format_databases(value: list[dict[str, Any]] | None) -> str:
    return ", ".join(d["name"] for d in value or [])


@command(app, "list", example="strongroom user list mysql1")
def list_(session: Session, instance: Name) -> None:
    """List the users, without system users."""
    found = session.client.pages("instances", instance, "users")
    columns = [Column("Name", "name"), Column("Host", "host"), Column("Databases", "databases", _format_databases)]
    session.output.rows(found, columns, noun="users")


@command(
    app,
    "create",
    example="strongroom user create mysql1 user1 --database db1 --database db2\n"
    "strongroom user create mysql1 user1 --password-stdin <password.txt",
)
def create(
    session: Session,
    instance: Name,
    user: User,
    host: Host = "%",
    database: Annotated[list[str] | None, typer.Option(help="Grant all rights on this database; may be repeated.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
    ] = False,
    password_file: Annotated[Path | None, typer.Option(help="Read the password from this file.")] = None,
) -> None:
    """Create a user. The password is asked for, or read from stdin or a file."""
    body = {
        "name": user,
        "host": host,
        "password": read_new_password(password_stdin, password_file),
        "databases": [{"name": d} for d in database or []],
    }
    session.client.post("instances", instance, "users", json={"users": [body]})


@command(app, "delete", example="strongroom user delete mysql1 user1")
def delete(session: Session, instance: Name, user: User, host: Host = "%", yes: Yes = False) -> None:
    """Delete a user."""
    confirm(f"Delete user {user}@{host} of {instance}?", yes)
    session.client.delete("instances", instance, "users", f"{user}@{host}")


@command(app, "grant", example="strongroom user grant mysql1 user1 db1 db2")
def grant(session: Session, instance: Name, user: User, databases: Databases, host: Host = "%") -> None:
    """Grant all rights on databases to a user."""
    body = {"databases": [{"name": d} for d in databases]}
    session.client.put("instances", instance, "users", f"{user}@{host}", "databases", json=body)


@command(app, "revoke", example="strongroom user revoke mysql1 user1 db2")
def revoke(session: Session, instance: Name, user: User, databases: Databases, host: Host = "%") -> None:
    """Revoke the rights on databases."""
    for database in databases:
        session.client.delete("instances", instance, "users", f"{user}@{host}", "databases", database)
