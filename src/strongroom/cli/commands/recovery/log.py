"""The commands ``strongroom log …``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from strongroom.cli.commands.instance import Name
from strongroom.cli.filters import Limit
from strongroom.cli.output.columns import Column, Exact
from strongroom.cli.output.remarks import note
from strongroom.cli.output.tables import Format
from strongroom.cli.output.values import parse_moment
from strongroom.cli.session import Session, command
from strongroom.errors import InvalidRequest
from strongroom.protection.durations import parse_duration

app = typer.Typer(no_args_is_help=True, help="The log archive of an instance.")

EVENTS = [
    Exact("Time", "time"),
    Column("What", "kind"),
    Column("Tables", "tables", cut=True),
    Column("Text", "text", cut=True),
    Column("Position before", "begin", rank=1, cut=True),
    Column("Restore to before it", "before"),
]


@command(
    app,
    "find",
    example="strongroom log find orders --drop --table items --since 2h\nstrongroom log find orders --delete --table shop.items",
)
def find(
    session: Session,
    instance: Name,
    table: Annotated[
        str | None,
        typer.Option(help="Only of this table: shop.items or items. Not for PostgreSQL: its log has no names."),
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Find drops; of PostgreSQL also truncations and rewrites.")] = False,
    truncate: Annotated[bool, typer.Option("--truncate", help="Find truncations.")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="Find deletions of rows, by segment of the log.")] = False,
    point: Annotated[bool, typer.Option("--point", help="Find restore points.")] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="How long ago (2h, 3d), or a time (2026-11-29T12:00 is in UTC)."),
    ] = None,
    limit: Limit = 100,
) -> None:
    """Find when a table was dropped, truncated or deleted from, newest first. Without an option: all of these.

    `strongroom restore --instance INSTANCE --to TIME` with the last column restores the moment before it.
    """
    options = {"drop": drop, "truncate": truncate, "delete": delete, "restore-point": point}
    kinds = [kind for kind, wanted in options.items() if wanted]
    begin = _parse_since(since) if since else None
    query = {"kind": kinds or None, "table": table, "since": begin, "limit": limit}
    found = session.client.get("instances", instance, "log-events", **query)["events"]
    session.output.rows(found, EVENTS, noun="such events in the log")
    if found and session.output.format is Format.table:
        note(f'To restore: `strongroom restore --instance {instance} --to "{found[0]["before"]}" --name NEW`.')


def _parse_since(text: str) -> str:
    try:
        return (datetime.now(UTC) - parse_duration(text)).isoformat()
    except InvalidRequest:
        pass
    try:
        return parse_moment(text).isoformat()
    except ValueError:
        raise InvalidRequest(f"{text!r} is not a time", remedy="Write 2h, 3d or 2026-11-29T12:00 (UTC).") from None
