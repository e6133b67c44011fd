"""The command ``strongroom key new``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli.output.remarks import note
from strongroom.cli.session import epilog, handle_errors
from strongroom.errors import AlreadyExists

app = typer.Typer(no_args_is_help=True, help="Keys for encrypted backups.")


@app.callback()
def keys() -> None:
    """Keys for encrypted backups."""


@app.command("new", epilog=epilog("strongroom key new --output /etc/strongroom/identity.txt"))
def new(
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the identity, which must be kept secret.")] = Path(
        "strongroom-identity.txt"
    ),
) -> None:
    """Create a key pair: write the identity to a file that only you can read, and print the recipient.

    Hosts that take backups need only the recipient ([encryption] recipients); hosts that restore need the file.
    """
    from strongroom.artifact import new_identity  # slow to load, and not needed by other commands
    from strongroom.system.files import create_file

    with handle_errors():
        identity, recipient = new_identity()
        try:
            create_file(output, f"# age identity of Strongroom, recipient {recipient}\n{identity}\n")
        except FileExistsError as error:
            raise AlreadyExists(
                f"{output} already exists and is not overwritten: backups encrypted for it would become unreadable",
                remedy="Choose another file with --output.",
            ) from error
        note(f"The identity is in {output}. Keep a copy somewhere safe: without it no encrypted backup can be restored.")
        print(recipient)
