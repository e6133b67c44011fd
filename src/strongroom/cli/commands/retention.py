"""The commands ``strongroom retention …`` and ``strongroom status``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from strongroom.cli.commands.policy.settings import parse_end
from strongroom.cli.connection.completion import complete_names
from strongroom.cli.filters import Limit
from strongroom.cli.output.columns import Column, Id, When
from strongroom.cli.output.remarks import note, warn
from strongroom.cli.output.tables import Format
from strongroom.cli.output.values import format_count, format_moment, format_size, format_utc
from strongroom.cli.session import AllProjects, Session, Yes, command, confirm

app = typer.Typer(no_args_is_help=True, help="Retention: which backups are kept, and why; what was removed.")
status_app = typer.Typer()

Database = Annotated[
    str,
    typer.Argument(
        metavar="INSTANCE",
        help="Instance or cluster: name or id. Of a deleted one, the id.",
        autocompletion=complete_names("instances"),
    ),
]


def _format_lines(value: Sequence[str] | None) -> str:
    return "\n".join(value or [])


FATES = [
    Column("Backup", "name"),
    Column("Kind", "kind", rank=3),
    Column("Stored", "stored_size", format_size, right=True, rank=2),
    Column("Kept", "kept"),
    Column("Because", "reasons", _format_lines),
    When("Expires", "until", rank=1),
    When("Removed after", "sweep_at"),
    When("Restores to", "point", rank=4),
    Id("ID", "id", rank=5),
]
REMOVALS = [
    Column("Backup", "name"),
    Column("Instance", "instance_name"),
    Column("Kind", "kind", rank=2),
    Column("Stored", "stored_size", format_size, right=True, rank=3),
    When("Removed", "removed"),
    Column("Because", "reason"),
    Column("By", "asked_by", rank=1),
    Column("Policy changed by", "policy_changed_by", rank=4),
    Id("ID", "id", rank=5),
]


@command(
    app,
    "show",
    example="strongroom retention show orders\nstrongroom retention show orders --at 2027-03-01\n"
    "strongroom retention show orders --at 90d --policy silver",
)
def show(
    session: Session,
    database: Database,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Simulate this time (2027-03-01, or 90d from now), with the backups that schedules take until then.",
        ),
    ] = None,
    policy: Annotated[str | None, typer.Option(help="Simulate another policy: name or id.")] = None,
) -> None:
    """Show why each backup is kept, and what goes. With --at or --policy: what would go; nothing happens."""
    when = parse_end(at).isoformat() if at else None
    found = session.client.get("retention", database, at=when, policy=policy)["retention"]
    if session.output.format is not Format.table:
        session.output.record(found, [Column(name, name) for name in found])
        return
    session.output.rows(found["backups"], FATES, noun="backups")
    for line in _summarize(found):
        note(line)
    _note_holds(found["ending_holds"])
    if found["waiting"]:
        warn(f"Retention waits: {found['waiting']['message']}. `strongroom retention confirm {database}` lets it continue.")


def _note_holds(holds: Sequence[Mapping[str, Any]]) -> None:
    for hold in holds:
        note(f"The hold of backup {hold['backup']} ends {format_moment(hold['until'])} UTC: {hold['reason']}.")


def _summarize(found: Mapping[str, Any]) -> list[str]:
    if found["policy"] is None:
        return ["No policy applies: all backups are kept."]
    would = "would be " if found["simulated"] else ""
    gone = f"expired at {format_moment(found['at'])} UTC" if found["simulated"] else "deleted or expired"
    verb = would or ("is " if found["kept"] == 1 else "are ")
    kept = f"{format_count(found['kept'], 'backup')} {verb}kept"
    lines = [
        f"Policy {found['policy']}: {found['rules']}.",
        f"{kept}, {found['expired']} ({format_size(found['expired_bytes'])}) {gone}.",
    ]
    if found["lost"]:
        lines.append(f"No longer restorable then: {', '.join(format_utc(point) for point in found['lost'])}.")
    return lines


@command(app, "confirm", example="strongroom retention confirm orders\nstrongroom retention confirm orders --yes")
def confirm_(session: Session, database: Database, yes: Yes = False) -> None:
    """Let retention continue although a brake has stopped it: a mass removal, a shrunken full backup, or a jump of the clock."""
    waiting = session.client.get("retention", database)["retention"]["waiting"]
    if waiting is None:
        note(f"Retention of {database} does not wait for anything.")
        return
    warn(f"Retention of {database} waits: {waiting['message']}.")
    confirm("Let it continue?", yes)
    session.client.post("retention", database, "confirm", json={"confirm": {"code": waiting["code"]}})
    note("Confirmed.")


@command(app, "removals", example="strongroom retention removals\nstrongroom retention removals orders --limit 10")
def removals(
    session: Session,
    database: Annotated[
        str | None, typer.Argument(metavar="INSTANCE", help="Only of this instance or cluster: name or id.")
    ] = None,
    limit: Limit = None,
    all_projects: AllProjects = False,
) -> None:
    """List backups that were removed: when, why, by whom."""
    everywhere = "true" if all_projects else None
    found = session.client.get("removals", database=database, limit=limit, all_projects=everywhere)["removals"]
    session.output.rows(found, REMOVALS, noun="removals")


def _format_conditions(value: Sequence[Mapping[str, Any]] | None) -> str:
    return "\n".join(condition["message"] for condition in value or [])


def _format_remedies(value: Sequence[Mapping[str, Any]] | None) -> str:
    return "\n".join(condition["remedy"] for condition in value or [] if condition["remedy"])


def _format_incidents(value: Sequence[Mapping[str, Any]] | None) -> str:
    return "\n".join(f"{incident['detail']}. {incident['remedy']}".strip() for incident in value or [])


def _format_archive(value: Mapping[str, Any] | None) -> str:
    if not value:
        return ""
    if value["loss"] is None:
        return str(value["trouble"] or value["state"])
    trouble = f": {value['trouble']}" if value["trouble"] else ""
    return f"{value['loss']} s behind{trouble}"


STATUS = [
    Column("Database", "name"),
    Column("State", "state"),
    Column("Policy", "policy", rank=1),
    When("Newest", "newest"),
    When("Newest verified", "newest_verified", rank=4),
    Column("Restorable", "restorable", right=True, rank=5),
    Column("Chain", "chain", right=True, rank=6),
    When("Next run", "next_run", rank=3),
    Column("Log archive", "log_archive", _format_archive, rank=2),
    Column("Because", "conditions", _format_conditions),
    Column("Remedy", "conditions", _format_remedies),
    Column("Incidents", "incidents", _format_incidents, rank=7),
]


@command(
    status_app,
    "status",
    example="strongroom status\nstrongroom status --check\nstrongroom status --format json",
    monitoring="check",
)
def status(
    session: Session,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="For monitoring: one line, and the exit status 0 ok, 1 warning, 2 critical, or 3 unknown (also an error).",
        ),
    ] = False,
    all_projects: AllProjects = False,
) -> None:
    """Show how well each database is protected: what can be restored, what is wrong, what to do."""
    query = {"all_projects": "true"} if all_projects else {}
    found = session.client.get("protection", **query)["protection"]
    if check:
        typer.echo(found["summary"])
        for one in found["databases"]:
            if one["level"] != "ok":
                typer.echo(f"{one['name']}: {one['state']}: {_format_conditions(one['conditions'][:1])}")
        raise typer.Exit(found["exit_code"])
    columns = [Column("Project", "project_id"), *STATUS] if all_projects else STATUS
    session.output.rows(found["databases"], columns, noun="databases")
    for one in found["databases"]:
        for warning in (one["log_archive"] or {}).get("warnings", ()):
            warn(f"{one['name']}: {warning}")
        _note_holds(one["ending_holds"])
