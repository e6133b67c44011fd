"""The command ``strongroom window``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from strongroom.cli.commands.instance import Name
from strongroom.cli.output.columns import Column, Exact
from strongroom.cli.output.remarks import note
from strongroom.cli.output.tables import Format
from strongroom.cli.output.values import format_count, format_moment, format_size
from strongroom.cli.session import Session, command

app = typer.Typer()

INTERVALS = [
    Exact("From", "begin"),
    Exact("To", "end"),
    Column("First backup", "first_base.name"),
    Column("Backups", "bases", right=True, rank=2),
    Column("Log", "raw_size", format_size, right=True, rank=1),
    Column("Segments", "segments", right=True, rank=3),
    Column("First position", "first_position", rank=4, cut=True),
    Column("Last position", "last_position", rank=5, cut=True),
]
GAPS = [
    Exact("After", "begin"),
    Exact("Until", "end"),
    Column("Because", "reason"),
    Column("What to do", "remedy"),
]


@command(
    app,
    "window",
    example="strongroom window orders\nstrongroom window orders --time local\nstrongroom window orders --format json",
)
def window(session: Session, instance: Name) -> None:
    """Show to which moments an instance can be restored, to the second, and every gap with its cause.

    It needs the log archive of a policy (`strongroom policy update POLICY --log-archive`). Of a deleted instance, give the id.
    """
    found = session.client.get("instances", instance, "window")["window"]
    if session.output.format is Format.json:
        session.output.record(found, [Column(name, name) for name in found])
        return
    session.output.rows(found["intervals"], INTERVALS)
    if session.output.format is not Format.table or session.output.columns:
        return
    if found["gaps"]:
        print()
        print("Gaps:")
        session.output.rows(found["gaps"], GAPS)
    for line in _summarize(found):
        note(line)


def _summarize(found: Mapping[str, Any]) -> Sequence[str]:
    name = found["instance_name"]
    size = f"{format_size(found['raw_size'])}, {format_size(found['stored_size'])} in the store"
    lines = [f"Log of {name}: {format_count(found['segments'], 'segment')} ({size})."]
    if found["covered_until"]:
        lines.append(f"Covered until {format_moment(found['covered_until'])} UTC.")
    if not found["intervals"]:
        lines.append(f"No moment can be restored: no good backup of {name} is in a complete part of its log. Take a backup.")
    return lines
