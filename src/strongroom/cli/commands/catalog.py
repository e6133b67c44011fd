"""The commands ``strongroom catalog …``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from strongroom.cli.output.columns import Column
from strongroom.cli.output.remarks import note, warn
from strongroom.cli.session import Session, Wait, command

app = typer.Typer(no_args_is_help=True, help="The catalog of backups.")

FOUND = [
    Column("Name", "name"),
    Column("Kind", "kind"),
    Column("Project", "project"),
    Column("Protected", "protected", rank=3),
    Column("Held", "held", rank=4),
    Column("Location", "at"),
    Column("ID", "id"),
]


@command(app, "rebuild", example="strongroom catalog rebuild\nstrongroom catalog rebuild --container archive --dry-run")
def rebuild(
    session: Session,
    container: Annotated[str | None, typer.Option(help="Only this container. Default: all containers of the store.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be added.")] = False,
    wait: Wait = True,
) -> None:
    """Add all backups in the store that the catalog lacks, for example after the state directory was lost.

    Safe to run again; existing entries are not changed. Names, protection and holds of backups are in the store. Not in the
    store are instances (restore them from their backups, or adopt them), their names and protection, registered and imported
    backups, backup strategies, quotas and jobs.
    """
    requested: dict[str, Any] = {"dry_run": dry_run} | ({"container": container} if container else {})
    reply = session.client.post("catalog", "rebuild", json={"rebuild": requested})
    session.finish(reply.job, wait)
    if not wait or reply.job is None:
        return
    output = session.client.get("jobs", reply.job)["job"]["output"]
    session.output.rows(output["backups"], FOUND)
    for problem in output["problems"]:
        note(f"{problem['at']}: {problem['message']}")
    if output.get("warning"):
        warn(output["warning"])
    if output["unsealed"]:
        warn(
            f"{output['unsealed']} of them have no seal of this control plane: anyone with write access to the store could have"
            " replaced them."
        )
    done = "would be added" if dry_run else "added"
    note(f"{output['found']} found, {output['known']} known, {output['added']} {done}, {output['broken']} broken.")
