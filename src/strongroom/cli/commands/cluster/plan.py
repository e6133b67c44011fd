"""The plan of a cluster's restore, as a result and for confirmation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from strongroom.cli.output.columns import Column, When
from strongroom.cli.output.remarks import note
from strongroom.cli.output.tables import Format
from strongroom.cli.output.values import format_moment, format_size
from strongroom.cli.session import Session

RESTORE = [
    Column("Backup", "backup_name"),
    Column("Backup ID", "backup"),
    Column("Chain", "chain"),
    When("Taken", "taken"),
    Column("Data", "data_bytes", format_size),
    Column("Method", "method"),
    Column("Why", "why"),
    Column("Left out", "left_out"),
    Column("Previous data", "old_data"),
]
NODES = [
    Column("Node", "node"),
    Column("Host", "host"),
    Column("Does", "does"),
    Column("Data", "data"),
]


def print_plan(session: Session, plan: Mapping[str, Any]) -> None:
    """Print the plan as a result."""
    session.output.record(plan, RESTORE)
    if session.output.format is Format.table and not session.output.columns:
        print()
        session.output.rows(plan["nodes"], NODES)


def note_plan(cluster: str, plan: Mapping[str, Any]) -> None:
    """Print the plan on stderr, for confirmation."""
    chain = f", a chain of {len(plan['chain'])}" if len(plan["chain"]) > 1 else ""
    taken = format_moment(plan["taken"]) or "an unknown time"
    note(f"Restore of backup {plan['backup_name']} ({format_size(plan['data_bytes'])} of data{chain}) to cluster {cluster}:")
    note(f"  changes after {taken} UTC are lost;")
    note(f"  {plan['why']};")
    for node in plan["nodes"]:
        note(f"  {describe_place(node)} {node['does']}, with data {node['data']};")
    note(f"  the previous data {plan['old_data']}.")


def describe_place(node: Mapping[str, Any]) -> str:
    """The name of the node, and of its host if the caller may see it."""
    return f"{node['node']} on {node['host']}" if node.get("host") else str(node["node"])
