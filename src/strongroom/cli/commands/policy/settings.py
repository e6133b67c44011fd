"""Options and columns for the settings of policies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, TypedDict

import typer

from strongroom.cli.output.columns import Column, When
from strongroom.cli.output.values import parse_moment
from strongroom.errors import InvalidRequest
from strongroom.protection.durations import parse_duration


class Settings(TypedDict, total=False):
    """The options. One that was not given is None."""

    full: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help='When full backups are taken: "sun 02:00", "first sun 02:00", "0 2 * * 0". "": never.'),
    ]
    incremental: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help='When incrementals are taken: "daily 02:00", hourly, "every 6h". "": never.'),
    ]
    time_zone: Annotated[
        str | None, typer.Option(metavar="ZONE", help="Zone of all times of day, such as Europe/Vienna. Default: UTC.")
    ]
    spread: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Backups of different databases that are due together begin within this time. Default: 5m."
        ),
    ]
    not_between: Annotated[
        list[str] | None,
        typer.Option(metavar="HH:MM-HH:MM", help='No backup begins in these hours; may be repeated. "": no such hours.'),
    ]
    max_chain: Annotated[
        int | None, typer.Option(min=0, help="A full is taken when a chain has this many backups. 0: no limit (default).")
    ]
    max_chain_age: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="A full is taken when the one at the base of the chain is older. 0s: no limit (default)."
        ),
    ]
    attempts: Annotated[
        int | None, typer.Option(min=1, max=10, help="How often a backup is tried before an incident is opened. Default: 3.")
    ]
    keep_last: Annotated[int | None, typer.Option(min=0, help="Keep this many of the newest backups.")]
    keep_within: Annotated[
        str | None, typer.Option(metavar="TIME", help="Keep backups that are less than this much older than the newest: 7d.")
    ]
    keep_hourly: Annotated[int | None, typer.Option(min=0, help="Keep one backup for each of this many hours.")]
    keep_daily: Annotated[int | None, typer.Option(min=0, help="Keep one backup for each of this many days.")]
    keep_weekly: Annotated[int | None, typer.Option(min=0, help="Keep one backup for each of this many weeks.")]
    keep_monthly: Annotated[int | None, typer.Option(min=0, help="Keep one backup for each of this many months.")]
    keep_yearly: Annotated[int | None, typer.Option(min=0, help="Keep one backup for each of this many years.")]
    max_age: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="A database is late if its newest backup is older. Default: from the schedules."),
    ]
    max_proof_age: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="A database is unverified if its newest verified backup is older. Default: any age."),
    ]
    log_archive: Annotated[
        bool | None,
        typer.Option(
            "--log-archive/--no-log-archive",
            help="Archive the log of instances all the time, so that they can be restored to any moment.",
        ),
    ]
    max_loss: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With a log archive: an incident opens when more could be lost. Default: 5m."),
    ]


def pick_settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a request: the options that were given. An empty ``--not-between`` removes all of them."""
    given = {name: value for name, value in options.items() if value is not None and value != []}
    if "not_between" in given:
        given["not_between"] = [hours for hours in given["not_between"] if hours]
    return given


def parse_end(text: str) -> datetime:
    """Parse the end of a pause: a time (UTC without a zone), or how long from now. Raises InvalidRequest."""
    try:
        return datetime.now(UTC) + parse_duration(text)
    except InvalidRequest:
        pass
    try:
        return parse_moment(text)
    except ValueError:
        raise InvalidRequest(
            f"{text!r} is not a time", remedy="Write 2026-12-31, 2026-12-31T07:00 (UTC), or how long from now: 12h, 3d."
        ) from None


def _list_names(value: list[dict[str, Any]] | None) -> str:
    return ", ".join(f"{item['name']} ({item['type']})" for item in value or [])


def _list_times(value: list[dict[str, Any]] | None) -> str:
    return "\n".join(f"{_describe_time_of(item)}  {item['kind']}" for item in value or [])


def _describe_time_of(item: dict[str, Any]) -> str:
    """In the policy's zone, and the time of day in UTC: short enough for 80 columns."""
    local = str(item["local"])
    return local if local.endswith(" UTC") else f"{local} ({item['at'][11:16]} UTC)"


def _describe_pause(value: dict[str, Any] | None) -> str:
    if not value:
        return ""
    end = f"until {value['until'][:16].replace('T', ' ')} UTC" if value["until"] else "until it is resumed"
    return f"{end}, by {value['by'] or 'unknown'}: {value['reason']}"


def _describe_number(value: int | None) -> str:
    return str(value) if value else ""


def _describe_loss(value: dict[str, Any]) -> str:
    return f"yes, at most {value['max_loss']} may be lost" if value["log_archive"] else "no"


def _describe_time(value: str | None) -> str:
    return "" if value in (None, "0s") else str(value)


LIST = [
    Column("Name", "name"),
    Column("Full", "settings.full"),
    Column("Incremental", "settings.incremental"),
    Column("Time zone", "settings.time_zone", rank=2),
    Column("Attached to", "attached", _list_names, rank=1, cut=True),
    Column("Whole project", "whole_project", rank=3),
    Column("Paused", "paused", _describe_pause, rank=4, cut=True),
]
SHOW = [
    Column("ID", "id"),
    Column("Name", "name"),
    Column("Full", "settings.full"),
    Column("Incremental", "settings.incremental"),
    Column("Time zone", "settings.time_zone"),
    Column("Next runs", "next_runs", _list_times),
    Column("Spread", "settings.spread"),
    Column("Not between", "settings.not_between"),
    Column("Max chain", "settings.max_chain", _describe_number),
    Column("Max chain age", "settings.max_chain_age", _describe_time),
    Column("Attempts", "settings.attempts"),
    Column("Keep last", "settings.keep_last", _describe_number),
    Column("Keep within", "settings.keep_within", _describe_time),
    Column("Keep hourly", "settings.keep_hourly", _describe_number),
    Column("Keep daily", "settings.keep_daily", _describe_number),
    Column("Keep weekly", "settings.keep_weekly", _describe_number),
    Column("Keep monthly", "settings.keep_monthly", _describe_number),
    Column("Keep yearly", "settings.keep_yearly", _describe_number),
    Column("Max age", "settings.max_age", _describe_time),
    Column("Max proof age", "settings.max_proof_age", _describe_time),
    Column("Log archive", "settings", _describe_loss),
    Column("Attached to", "attached", _list_names),
    Column("Whole project", "whole_project"),
    Column("Declared in the configuration", "declared"),
    Column("Paused", "paused", _describe_pause),
    When("Created", "created"),
    Column("Created by", "created_by"),
    When("Changed", "updated"),
    Column("Changed by", "updated_by"),
]
