"""Restores of an instance to a moment in its past: the part of ``strongroom restore`` with ``--to``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from strongroom.cli.output.columns import Column
from strongroom.cli.output.remarks import note
from strongroom.cli.output.tables import Format
from strongroom.cli.output.values import format_count, format_moment, format_size, format_utc, parse_moment
from strongroom.cli.session import Session
from strongroom.errors import InvalidRequest

BACKUP = "backup:"
"""The beginning of a target that is only a backup."""


def understand(target: str, utc: bool) -> str:
    """The target as the API takes it. A time is printed as it was understood; without a zone it is refused, or UTC."""
    try:
        moment = datetime.fromisoformat(target)
    except ValueError:
        return target
    if moment.tzinfo is None:
        if not utc:
            raise InvalidRequest(
                f"the time {target} has no time zone", remedy=f'Add one, as in "{target}+01:00" or "{target}Z", or pass --utc.'
            )
        moment = moment.replace(tzinfo=UTC)
    note(f"Target: {_format_both(moment)}.")
    return moment.astimezone(UTC).isoformat()


def _format_both(moment: datetime) -> str:
    """A time in UTC and local time."""
    local = moment.astimezone()
    return f"{_format(moment.astimezone(UTC))} UTC ({_format(local)} {local:%z} local time)"


def _format(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f").removesuffix(".000000")


def format_target(plan: Mapping[str, Any]) -> str:
    """The target of a plan."""
    return _format_both(parse_moment(plan["time"])) if plan["time"] else str(plan["target"])


def _format_transaction(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "none in the log"
    tables = f", {', '.join(found['tables'])}" if found["tables"] else ""
    return f"{found['name']} at {found['time'].replace('T', ' ').removesuffix('Z')} UTC, ends at {found['end']}{tables}"


def _format_chain(links: list[dict[str, Any]]) -> str:
    return " → ".join(f"{link['name']} ({link['kind']})" for link in links)


def _format_log(plan: Mapping[str, Any]) -> str:
    sizes = f"{format_size(plan['log_raw_size'])}, fetches {format_size(plan['log_stored_size'])}"
    return (
        f"{format_count(plan['segments'], 'segment')} ({sizes})"
        if plan["segments"]
        else "none: the backup ends exactly at the target"
    )


def _format_loss(plan: Mapping[str, Any]) -> str:
    if plan["lost_until"] is None:
        return "nothing that is archived"
    count = format_count(plan["lost_transactions"], "transaction")
    return f"everything after it: about {count} until {format_utc(plan['lost_until'])}"


_FIELDS: list[tuple[str, Callable[[Mapping[str, Any]], str]]] = [
    ("Target", format_target),
    ("Position", lambda plan: str(plan["position"])),
    ("Last transaction", lambda plan: _format_transaction(plan["last"])),
    ("First left out", lambda plan: _format_transaction(plan["next"])),
    ("Left out", _format_loss),
    ("Base", lambda plan: f"{_format_chain(plan['restore']['chain'])}, complete at {format_moment(plan['base_finished'])} UTC"),
    ("Other bases", lambda plan: f"{plan['other_bases']} older, if it is damaged" if plan["other_bases"] else ""),
    ("Log", _format_log),
    ("Fetched", lambda plan: format_size(plan["restore"]["stored_size"] + plan["log_stored_size"])),
    ("Space", lambda plan: f"{format_size(plan['restore']['data_size'])} of data, before the log is applied"),
    ("Datastore", lambda plan: f"{plan['restore']['datastore']} {plan['restore']['series']}"),
    ("Host", lambda plan: plan["restore"]["host"] or ""),
    ("In place of", lambda plan: plan["restore"]["instance"] or ""),
    ("Isolated", lambda plan: "yes" if plan["restore"]["isolated"] else "no"),
    ("Allowed", lambda plan: "yes" if plan["restore"]["allowed"] else "no"),
]
_SHOWN = 8
"""How many of them are shown before a confirmation."""


def fetch_plan(session: Session, instance: str, target: str, requested: Mapping[str, Any]) -> dict[str, Any]:
    """Fetch the plan of a restore to the target."""
    query = {"target": target, **requested}
    query["in_place"] = query.pop("instance")
    plan: dict[str, Any] = session.client.get("instances", instance, "recovery-plan", **query)["plan"]
    return plan


def print_fields(session: Session, plan: Mapping[str, Any]) -> None:
    """Print the plan without its effects."""
    if session.output.format is not Format.table:
        session.output.record(plan, [Column(name, name) for name in plan])
        return
    session.output.record({title: describe(plan) for title, describe in _FIELDS}, [Column(title, title) for title, _ in _FIELDS])


def note_fields(plan: Mapping[str, Any]) -> None:
    """Print the most important fields on stderr."""
    for title, describe in _FIELDS[:_SHOWN]:
        if text := describe(plan):
            note(f"  {title:<18}{text}")
