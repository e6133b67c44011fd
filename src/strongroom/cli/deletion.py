"""Deletions of instances, clusters and backups: plan, confirmation, request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from strongroom.cli.names import Noun
from strongroom.cli.output.columns import Column
from strongroom.cli.output.remarks import warn
from strongroom.cli.output.values import format_age, format_count, format_moment, format_size, format_utc
from strongroom.cli.session import Session, confirm
from strongroom.errors import Conflict

Plan = Annotated[bool, typer.Option("--plan", help="Only show what would be deleted; fails if it would be refused.")]

FinalBackup = Annotated[
    bool, typer.Option("--final-backup", help="Take a full backup first; nothing is deleted unless it is complete.")
]

NAMED = 10
"""How many backups a question lists."""


def _format_names(value: Sequence[Mapping[str, Any]] | None) -> str:
    return "\n".join(f"{b['name']} ({b['kind']}, {format_size(b['stored_size']) or 'nothing stored'})" for b in value or [])


def _format_jobs(value: Sequence[Mapping[str, Any]] | None) -> str:
    return ", ".join(f"{job['kind']} {job['id']}" for job in value or [])


def _format_kept(value: Mapping[str, Any] | None) -> str:
    return f"{value['name']}, taken {format_moment(value['created'])} UTC" if value else "none"


def _format_verified(value: Mapping[str, Any] | None) -> str:
    return f"{value['name']}, verified {format_moment(value['verified'])} UTC" if value else "none"


def _format_refusals(value: Sequence[Mapping[str, Any]] | None) -> str:
    return "\n".join(f"{r['message']}. {r['remedy']}" for r in value or [])


PLAN = [
    Column("Deletes", "noun"),
    Column("Name", "name"),
    Column("ID", "id"),
    Column("Allowed", "allowed"),
    Column("Refused", "refused", _format_refusals),
    Column("Adopted", "adopted"),
    Column("Nodes", "nodes"),
    Column("Data", "bytes", format_size),
    Column("Previous data", "old_bytes", format_size),
    Column("Backups", "backups", _format_names),
    Column("Removed after", "sweep_at", format_utc),
    Column("Cancels", "jobs", _format_jobs),
    Column("Final backup first", "final_backup"),
    Column("Remaining backups", "kept"),
    Column("Newest", "newest", _format_kept),
    Column("Newest verified", "newest_verified", _format_verified),
]


def delete(session: Session, noun: Noun, ref: str, *, plan: bool, yes: bool, wait: bool, **query: str | None) -> str | None:
    """Show the plan, ask for confirmation, delete; with ``plan`` only show it. Returns the id of the job, if there is one.

    Raises Conflict if the deletion is refused.
    """
    if plan or not yes:
        found = session.client.get(f"{noun}s", ref, "delete-plan", **query)["plan"]
        if plan:
            session.output.record(found, PLAN)
            raise typer.Exit(0 if found["allowed"] else 1)
        if found["refused"]:
            refusal = found["refused"][0]
            raise Conflict(refusal["message"], remedy=refusal["remedy"])
        for line in describe_plan(found):
            warn(line)
        which = f"{noun} {found['name']}{' and all that depend on it' if query.get('cascade') else ''}"
        confirm(f"Delete {which}{'' if found.get('sweep_at') else ' permanently'}?", yes)
        ref = found["id"]
    job = session.client.delete(f"{noun}s", ref, **query).job
    session.finish(job, wait)
    return job


def describe_plan(plan: Mapping[str, Any]) -> list[str]:
    """The plan in sentences, for confirmation."""
    name = f"{plan['noun']} {plan['name']} ({plan['id'][:8]})"
    if plan["noun"] == "backup":
        lines = [f"This deletes {format_count(len(plan['backups']), 'backup')}, {format_size(plan['bytes'])} in the store:"]
        if len(plan["backups"]) == 1:
            lines = [f"This deletes {name}, {format_size(plan['bytes'])} in the store:"]
        lines += [f"  {line}" for line in _format_names(plan["backups"][:NAMED]).splitlines()]
        lines += [f"  and {len(plan['backups']) - NAMED} more"] if len(plan["backups"]) > NAMED else []
        if plan.get("sweep_at"):
            lines.append(
                f"Until {format_moment(plan['sweep_at'])} UTC, the data stays in the store: `strongroom backup undelete`."
            )
        return [*lines, *_describe_rest(plan, "backups of the same instance")]
    if plan["adopted"]:
        lines = [f"{name} is adopted: only its record is deleted. Its server keeps running, and its data is not changed."]
    else:
        nodes = f" with its nodes {', '.join(plan['nodes'])}" if plan["nodes"] else ""
        old = f", and {format_size(plan['old_bytes'])} of previous data that restores kept" if plan["old_bytes"] else ""
        lines = [f"This stops {name}{nodes} and deletes {format_size(plan['bytes'])} of data{old}."]
    if plan.get("final_backup"):
        lines.insert(0, "A full backup is taken first; nothing is deleted unless it is complete.")
    if plan["jobs"]:
        lines.append(f"It cancels running jobs: {_format_jobs(plan['jobs'])}.")
    return [*lines, *_describe_rest(plan, "of its backups")]


def _describe_rest(plan: Mapping[str, Any], which: str) -> list[str]:
    if not plan["newest"]:
        what = "No other backup of the same instance can be restored" if plan["noun"] == "backup" else "It has no backup that can"
        return [f"{what}{'' if plan['noun'] == 'backup' else ' be restored'}."]
    now = datetime.now(UTC)
    lines = [f"{plan['kept']} {which} can be restored and remain; the newest is {_describe_age(plan['newest'], 'created', now)}."]
    verified = plan["newest_verified"]
    if verified:
        lines.append(f"The newest verified one is {_describe_age(verified, 'created', now)}.")
    else:
        lines.append(f"None of them was ever verified: `strongroom backup verify {plan['newest']['id'][:8]} --prepare`.")
    return lines


def _describe_age(backup: Mapping[str, Any], field: str, now: datetime) -> str:
    return f"{backup['name']} ({format_age(backup[field], now)})"
