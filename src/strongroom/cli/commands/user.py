"""``strongroom user``: accounts of an instance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from strongroom.cli.commands.instance import Name
from strongroom.cli.connection.password import new_password
from strongroom.cli.output.columns import Column
from strongroom.cli.session import Session, Yes, command, confirm

app = typer.Typer(no_args_is_help=True, help="Accounts of an instance, and which databases they may use.")

User = Annotated[str, typer.Argument(metavar="USER", help="Name of the account.")]
Host = Annotated[str, typer.Option(help="Where the account may connect from; % is anywhere.")]
Databases = Annotated[list[str], typer.Argument(metavar="DATABASE...", help="Databases.")]


def _names(value: list[dict[str, Any]] | None) -> str:
    return ", ".join(d["name"] for d in value or [])


@command(app, "list", example="strongroom user list mysql1")
def list_(session: Session, instance: Name) -> None:
    """List the accounts, without the server's own."""
    found = session.client.pages("instances", instance, "users")
    columns = [Column("Name", "name"), Column("Host", "host"), Column("Databases", "databases", _names)]
    session.output.rows(found, columns, noun="accounts")


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
    database: Annotated[list[str] | None, typer.Option(help="Give it all rights on this database; may be repeated.")] = None,
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from the first line of stdin.")
    ] = False,
    password_file: Annotated[Path | None, typer.Option(help="Read the password from this file.")] = None,
) -> None:
    """Create an account. The password is asked for, or read from stdin or a file."""
    body = {
        "name": user,
        "host": host,
        "password": new_password(password_stdin, password_file),
        "databases": [{"name": d} for d in database or []],
    }
    session.client.post("instances", instance, "users", json={"users": [body]})


@command(app, "delete", example="strongroom user delete mysql1 user1")
def delete(session: Session, instance: Name, user: User, host: Host = "%", yes: Yes = False) -> None:
    """Delete an account."""
    confirm(f"Delete account {user}@{host} of {instance}?", yes)
    session.client.delete("instances", instance, "users", f"{user}@{host}")


@command(app, "grant", example="strongroom user grant mysql1 user1 db1 db2")
def grant(session: Session, instance: Name, user: User, databases: Databases, host: Host = "%") -> None:
    """Give an account all rights on databases."""
    body = {"databases": [{"name": d} for d in databases]}
    session.client.put("instances", instance, "users", f"{user}@{host}", "databases", json=body)


@command(app, "revoke", example="strongroom user revoke mysql1 user1 db2")
def revoke(session: Session, instance: Name, user: User, databases: Databases, host: Host = "%") -> None:
    """Take the rights on databases back."""
    for database in databases:
        session.client.delete("instances", instance, "users", f"{user}@{host}", "databases", database)
