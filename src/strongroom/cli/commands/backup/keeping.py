"""The commands ``strongroom backup …`` that keep or delete backups."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer

from strongroom.cli import deletion, names
from strongroom.cli.commands.backup.backup import Name, app
from strongroom.cli.commands.policy.settings import parse_end
from strongroom.cli.output.remarks import note
from strongroom.cli.output.values import moment
from strongroom.cli.session import Session, Wait, Yes, command

__all__ = ["app"]


@command(app, "protect", example="strongroom backup protect monday")
def protect(session: Session, backup: Name) -> None:
    """Protect a backup: it and its ancestors cannot be deleted until `strongroom backup unprotect`."""
    names.protect(session, "backup", backup, True)


@command(app, "unprotect", example="strongroom backup unprotect monday")
def unprotect(session: Session, backup: Name) -> None:
    """Remove the protection of a backup."""
    names.protect(session, "backup", backup, False)


@command(
    app,
    "hold",
    example='strongroom backup hold monday --reason "audit 2026" --until 2027-12-31\n'
    "strongroom backup hold monday --reason case-17",
)
def hold(
    session: Session,
    backup: Name,
    reason: Annotated[str, typer.Option(help="Why it is kept.")],
    until: Annotated[
        str | None,
        typer.Option(
            metavar="DATE",
            help="Last day (2027-12-31), a time (2027-12-31T12:00, UTC), or how long: 90d. Default: until it is released.",
        ),
    ] = None,
) -> None:
    """Keep a backup and all that it is based on: neither a policy nor a user removes them.

    A second hold replaces the first. A backup that was deleted or has expired is taken back.
    """
    end = _end_of(until) if until else None
    body = {"reason": reason, **({"until": end.isoformat()} if end else {})}
    session.client.post("backups", backup, "action", json={"hold": body})
    note(f"Backup {backup} is held{f' until {moment(end.isoformat())} UTC' if end else ''}.")


def _end_of(text: str) -> datetime:
    """The end of the day, or the time."""
    found = parse_end(text)
    return found + timedelta(days=1) if len(text) == len("2027-12-31") and "T" not in text else found


@command(app, "release", example="strongroom backup release monday")
def release(session: Session, backup: Name) -> None:
    """End the hold of a backup. Its policy decides again."""
    session.client.post("backups", backup, "action", json={"release": {}})
    note(f"Backup {backup} is not held any more.")


@command(
    app,
    "delete",
    example="strongroom backup delete monday\nstrongroom backup delete monday --cascade --plan\n"
    "strongroom backup delete monday --cascade --now --yes",
)
def delete(
    session: Session,
    backup: Name,
    cascade: Annotated[bool, typer.Option("--cascade", help="Also delete the incrementals that depend on it.")] = False,
    now: Annotated[bool, typer.Option("--now", help="Remove it from the store at once, without the grace period.")] = False,
    plan: deletion.Plan = False,
    yes: Yes = False,
    wait: Wait = True,
) -> None:
    """Delete a backup. Its data stays in the store for the grace period; `strongroom backup undelete` brings it back."""
    query = {"cascade": "true" if cascade else None, "now": "true" if now else None}
    job = deletion.delete(session, "backup", backup, plan=plan, yes=yes, wait=wait, **query)
    if job is None:
        note(f"Backup {backup} is deleted; `strongroom backup show {backup}` shows when its data is removed.")
        note(f"Until then, `strongroom backup undelete {backup}` brings it back.")


@command(app, "undelete", example="strongroom backup undelete monday")
def undelete(session: Session, backup: Name) -> None:
    """Bring back a deleted backup, and all that it is based on, while its data is in the store."""
    session.client.post("backups", backup, "action", json={"undelete": {}})
    note(f"Backup {backup} is not deleted any more.")
