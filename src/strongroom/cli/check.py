"""``strongroom check``: is everything here that backups and restores need?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from strongroom.cli._render import Column, note
from strongroom.cli._session import Session, command

app = typer.Typer()


@command(app, "check", example="strongroom check\nstrongroom check --config /etc/strongroom.toml")
def check(
    session: Session,
    config: Annotated[Path | None, typer.Option(help="Configuration file to check when no service answers.")] = None,
) -> None:
    """Look at configuration, tools, versions, store and permissions, and say what to do. Fails when there is an error.

    The service is asked; when none answers, this machine is looked at with the configuration that `serve` would use.
    """
    if config is None and session.client.ready():
        checks = session.client.get("checks")["checks"]
    else:
        note("No service is asked; looking at this machine.")
        checks = _local(config)
    columns = [
        Column("Level", "level"),
        Column("Host", "host"),
        Column("Check", "name"),
        Column("Finding", "message"),
        Column("What to do", "remedy"),
    ]
    session.output.rows(checks, columns)
    if any(found["level"] == "error" for found in checks):
        raise typer.Exit(1)


def _local(config: Path | None) -> list[dict[str, Any]]:
    from strongroom.agent.checks import run_checks  # the agent takes long to import, and is rarely needed here
    from strongroom.settings import load

    return [{"host": "", **found.model_dump()} for found in run_checks(load(config))]
