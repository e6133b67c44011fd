"""The command ``strongroom check``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from strongroom.cli.output.columns import Column
from strongroom.cli.session import Session, command

app = typer.Typer()


class FailOn(StrEnum):
    """The lowest level that makes the command fail."""

    error = "error"
    warning = "warning"


@command(app, "check", example="strongroom check\nstrongroom check --fail-on warning\nstrongroom check --local --config c.toml")
def check(
    session: Session,
    local: Annotated[bool, typer.Option("--local", help="Check this machine without a service, before the first start.")] = False,
    config: Annotated[
        Path | None, typer.Option(help="With --local: configuration file of the service (TOML). Implies --local.")
    ] = None,
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="Lowest level that makes the command exit with 1.")] = FailOn.error,
) -> None:
    """Check configuration, tools, versions, store and permissions. Exits with 1 if there is an error.

    The service checks itself and all its hosts. Exits with 5 if the service is unreachable. The only change is one small object
    in the store, which is deleted again.
    """
    checks = _check_locally(config) if local or config is not None else session.client.get("checks")["checks"]
    columns = [Column("Level", "level"), Column("Check", "name"), Column("Finding", "message"), Column("What to do", "remedy")]
    if len({found["host"] for found in checks if "host" in found}) > 1:
        columns.insert(1, Column("Host", "host"))
    session.output.rows(checks, columns)
    bad = {"error"} if fail_on is FailOn.error else {"error", "warning"}
    if any(found["level"] in bad for found in checks):
        raise typer.Exit(1)


def _check_locally(config: Path | None) -> list[dict[str, Any]]:
    from strongroom.agent.checks import run_checks  # slow to load, and rarely needed
    from strongroom.settings import load

    return [{"host": "", **found.model_dump()} for found in run_checks(load(config))]
