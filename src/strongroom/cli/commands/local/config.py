"""The commands ``strongroom config …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strongroom.cli.output.columns import Column
from strongroom.cli.output.remarks import note
from strongroom.cli.output.tables import Format, Output
from strongroom.cli.session import epilog, handle_errors

app = typer.Typer(no_args_is_help=True, help="The configuration on this machine: show it, check a file.")

COLUMNS = [Column("Option", "option"), Column("Value", "value"), Column("Source", "source")]


@app.command("show", epilog=epilog("strongroom config show\nstrongroom config show --changed --config /etc/strongroom.toml"))
def show(
    config: Annotated[Path | None, typer.Option(envvar="STRONGROOM_CONFIG", help="Configuration file (TOML).")] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only options that differ from their defaults.")] = False,
    format: Annotated[Format, typer.Option("--format", "-f", help="How to print the result.")] = Format.table,
) -> None:
    """Show every option with its value and the source of it: file, environment or default.

    Secrets are not shown. Options of `strongroom serve`, such as --data-dir, override these values.
    """
    with handle_errors():
        from strongroom.settings import effective  # slow to load, and not needed by other commands

        rows = [{"option": o.option, "value": o.value, "source": o.source} for o in effective(config)]
        Output(format, ()).rows(
            [row for row in rows if not changed or row["source"] != "default"], COLUMNS, noun="changed options"
        )


@app.command("check", epilog=epilog("strongroom config check /etc/strongroom.toml"))
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Configuration file (TOML).")],
) -> None:
    """Check the options and values of a configuration file. `strongroom check --local` also checks whether they work."""
    with handle_errors():
        from strongroom.settings import effective

        count = sum(option.source == str(file) for option in effective(file))
        note(f"{file} is valid: {count} options.")
