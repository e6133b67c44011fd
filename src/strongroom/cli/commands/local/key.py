"""``strongroom key``: age keys, so that nobody but you can read your backups."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli.output.remarks import note
from strongroom.cli.session import epilog, guarded
from strongroom.errors import AlreadyExists

app = typer.Typer(no_args_is_help=True, help="Keys for encrypted backups.")


@app.callback()
def keys() -> None:
    """Keys for encrypted backups."""


@app.command("new", epilog=epilog("strongroom key new --output /etc/strongroom/identity.txt"))
def new(
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write the identity, which must stay secret.")] = Path(
        "strongroom-identity.txt"
    ),
) -> None:
    """Make a key pair: the identity goes to a file that only you can read, the recipient is printed.

    Hosts that take backups need the recipient only ([encryption] recipients); hosts that restore need the file.
    """
    from strongroom.artifact import new_identity  # native code that the other commands need not load
    from strongroom.system.files import create_file

    with guarded():
        identity, recipient = new_identity()
        try:
            create_file(output, f"# age identity of Strongroom, recipient {recipient}\n{identity}\n")
        except FileExistsError as error:
            raise AlreadyExists(
                f"{output} exists already and is not overwritten: backups made for it could never be read again",
                remedy="Choose another file with --output.",
            ) from error
        note(f"The identity is in {output}. Keep a copy somewhere safe: without it no encrypted backup can be restored.")
        print(recipient)
