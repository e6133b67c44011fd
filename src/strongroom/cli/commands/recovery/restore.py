"""The command ``strongroom restore``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import typer

from strongroom.cli.commands.instance import Flavor, Host, Size, create_instance, show_instance
from strongroom.cli.commands.recovery import moment
from strongroom.cli.connection.completion import complete_names
from strongroom.cli.names import AllowSameName, require_free_name
from strongroom.cli.output.columns import Column
from strongroom.cli.output.remarks import note, warn
from strongroom.cli.output.tables import Format
from strongroom.cli.output.values import format_age, format_moment, format_size
from strongroom.cli.session import Session, Wait, Yes, command, confirm
from strongroom.errors import Cancelled, InvalidRequest, JobError, StrongroomError, Unavailable

app = typer.Typer()
BACKUP = "Name or id of the backup; an incremental includes its chain."
_NAMED = 4
"""How many settings a plan and how many backups an error lists."""
_SEARCHED = 1000
"""How many backups are searched for restorable ones after a failure."""


def _format_chain(value: list[dict[str, Any]] | None) -> str:
    return " → ".join(f"{link['name']} ({link['kind']})" for link in value or [])


PLAN = [
    Column("Backup", "backup.name"),
    Column("Chain", "chain", _format_chain),
    Column("Fetched", "stored_size", format_size),
    Column("Read", "raw_size", format_size),
    Column("Data", "data_size", format_size),
    Column("Datastore", "datastore"),
    Column("Version", "series"),
    Column("Host", "host"),
    Column("In place of", "instance"),
    Column("Isolated", "isolated"),
    Column("Allowed", "allowed"),
]
EFFECTS = [
    Column("Effect", "effect"),
    Column("Item", "item"),
    Column("What", "message"),
    Column("What to do", "remedy"),
]


def print_plan(session: Session, plan: Mapping[str, Any]) -> None:
    """Print a plan: source and target, then each effect."""
    session.output.record(plan, PLAN)
    _print_effects(session, plan)


def _print_effects(session: Session, plan: Mapping[str, Any]) -> None:
    if session.output.format is Format.table and not session.output.columns and plan["effects"]:
        print()
        session.output.rows(_fold_carried(plan["effects"]), EFFECTS)


def _fold_carried(effects: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The effects; many carried settings are combined into one row."""
    carried = [effect["item"] for effect in effects if effect["effect"] == "carried"]
    if len(carried) <= _NAMED:
        return [dict(effect) for effect in effects]
    rows = [dict(effect) for effect in effects if effect["effect"] != "carried"]
    what, remedy = f"{', '.join(carried[:_NAMED])} and more", "See `--plan --format json` for their values."
    rows.append({"effect": "carried", "item": f"{len(carried)} settings", "message": what, "remedy": remedy})
    return rows


def _fetch_plan(session: Session, backup: str, target: Mapping[str, Any], *, required: bool) -> dict[str, Any] | None:
    """Fetch the plan, or None if the host is unreachable: the restore waits for the host and checks again."""
    try:
        reply = session.client.get("backups", backup, "restore-plan", **{k: v for k, v in target.items() if v is not None})
    except Unavailable as error:
        if required:
            raise
        note(f"The restore cannot be planned now: {error.message}")
        return None
    plan: dict[str, Any] = reply["plan"]
    return plan


def _note_plan(plan: Mapping[str, Any], *, everything: bool) -> None:
    """Print one line per effect on stderr; for a new instance, only what the user must know."""
    if everything:
        fetched, data = format_size(plan["stored_size"]), format_size(plan["data_size"])
        note(f"Plan: {_format_chain(plan['chain'])}; fetches {fetched}, restores {data}.")
    _note_effects(plan, everything=everything)


def _note_effects(plan: Mapping[str, Any], *, everything: bool) -> None:
    shown = [e for e in plan["effects"] if everything or e["effect"] not in ("carried", "kept", "refused")]
    for effect in _fold_carried(shown):
        remedy = f" {effect['remedy']}" if effect["remedy"] else ""
        note(f"  {effect['effect']:<9}{effect['item']}: {effect['message'].rstrip('.')}.{remedy}")


def _require_allowed(plan: Mapping[str, Any]) -> None:
    refused = [effect for effect in plan["effects"] if effect["effect"] == "refused"]
    if refused:
        raise InvalidRequest(
            f"backup {plan['backup']['name']} cannot be restored here: {'; '.join(e['message'] for e in refused)}",
            remedy=" ".join(e["remedy"] for e in refused if e["remedy"]),
        )


@command(
    app,
    "restore",
    example="strongroom restore tuesday --name mysql2 --plan\nstrongroom restore tuesday --name mysql2\n"
    "strongroom restore tuesday --in-place mysql1\n"
    'strongroom restore --instance orders --to "2026-11-29 13:59:00+01:00" --name orders2\n'
    "strongroom restore --instance orders --to latest --in-place orders",
)
def restore(
    session: Session,
    backup: Annotated[
        str | None,
        typer.Argument(
            metavar="BACKUP",
            help=f"{BACKUP} Or pass --instance and --to.",
            show_default=False,
            autocompletion=complete_names("backups"),
        ),
    ] = None,
    instance: Annotated[
        str | None,
        typer.Option(
            metavar="INSTANCE",
            help="Restore the past of this instance, from its backups and its log archive. Of a deleted instance, the id.",
            autocompletion=complete_names("instances"),
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="TARGET",
            help='With --instance: latest, a time with a zone ("2026-11-29 13:59:00+01:00"), lsn:X, gtid:X, before-gtid:X, '
            "point:NAME, or backup:NAME. `strongroom window` shows what can be restored.",
        ),
    ] = None,
    utc: Annotated[bool, typer.Option("--utc", help="A time without a zone is in UTC.")] = False,
    name: Annotated[str | None, typer.Option(help="Restore to a new instance with this name.")] = None,
    in_place: Annotated[
        str | None,
        typer.Option(
            metavar="INSTANCE",
            help="Replace the data of this instance; the previous data is kept.",
            autocompletion=complete_names("instances"),
        ),
    ] = None,
    flavor: Flavor = None,
    size: Size = None,
    host: Host = None,
    tablespace: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OLD=NEW",
            help="PostgreSQL, new instance: put tablespace OLD (its name, or its directory at the source) into the empty or "
            "missing directory NEW; may be repeated. Default: into the data directory.",
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only show what the restore would do; fails if it would be refused.")
    ] = False,
    yes: Yes = False,
    allow_same_name: AllowSameName = False,
    wait: Wait = True,
) -> None:
    """Restore a backup, or an instance as it was at any moment, to a new instance or in place.

    In place, the previous data directory is kept, and put back automatically if the server does not start on the new one.
    `strongroom instance discard-old` deletes it. A copy with a new name is isolated: it contacts no other server and runs no
    events, replication or scheduled work until `strongroom instance activate`.
    """
    if (name is None) == (in_place is None):
        raise InvalidRequest("a restore needs one target", remedy="Pass either --name NEW or --in-place INSTANCE.")
    if in_place is not None and (flavor or size or host or tablespace):
        raise InvalidRequest(
            "--flavor, --size, --host and --tablespace are for a new instance", remedy="Leave them out with --in-place."
        )
    if to is not None and to.startswith(moment.BACKUP) and backup is None:
        backup, instance, to = to.removeprefix(moment.BACKUP), None, None
    if (backup is None) == (instance is None) or (instance is None) != (to is None):
        raise InvalidRequest("it is not clear what to restore", remedy="Pass a backup, or --instance INSTANCE --to TARGET.")
    target = moment.understand(to, utc) if to is not None else None
    if name is not None:
        require_free_name(session, "instance", name, allow_same_name)
    directories = _parse_directories(tablespace or ())
    requested = {"instance": in_place, "host": host, "flavor": flavor, "size": size, "tablespace": [*directories] or None}
    new = {"name": name, "flavorRef": flavor, "volume": {"size": size} if size else None, "host": host}
    if instance is not None and target is not None:
        reached = moment.fetch_plan(session, instance, target, requested)
        if plan:
            moment.print_fields(session, reached)
            _print_effects(session, reached["restore"])
            raise typer.Exit(0 if reached["restore"]["allowed"] else 1)
        moment.note_fields(reached)
        _note_effects(reached["restore"], everything=in_place is not None)
        _require_allowed(reached["restore"])
        point = {"instance": reached["instance_id"], "target": target}
        if name is not None:
            _create(session, new, point, directories, wait)
        elif in_place is not None:
            _replace_with_moment(session, reached, in_place, point, yes, wait)
        return
    assert backup is not None
    found = session.client.get("backups", backup, trashed="true")["backup"]
    backup_plan = _fetch_plan(session, found["id"], requested, required=plan)
    if plan:
        assert backup_plan is not None
        print_plan(session, backup_plan)
        raise typer.Exit(0 if backup_plan["allowed"] else 1)
    if backup_plan is not None:
        _note_plan(backup_plan, everything=in_place is not None)
        _require_allowed(backup_plan)
    if name is not None:
        with name_good_backups(session, found):
            _create(session, new, {"backupRef": found["id"]}, directories, wait)
    elif in_place is not None:
        replaced = session.client.get("instances", in_place)["instance"]
        if found["instance_id"] != replaced["id"]:
            warn(_describe_other_source(found, replaced))
        when = (
            f"{found['name']}, taken {format_moment(found['created'])} UTC from {found['instance_name'] or 'an unknown instance'}"
        )
        lost = f"Later changes in {replaced['name']} are only in the previous data, which is kept."
        confirm(f"{lost}\nReplace the data of {replaced['name']} with backup {when}?", yes)
        with name_good_backups(session, found):
            reply = session.client.post("instances", replaced["id"], "action", json={"restore": {"backupRef": found["id"]}})
            session.finish(reply.job, wait)
        show_instance(session, replaced["id"])


def _create(
    session: Session, new: Mapping[str, Any], point: Mapping[str, Any], directories: Mapping[str, str], wait: bool
) -> None:
    """Restore to a new instance."""
    body = {**new, "restorePoint": {**point, **({"tablespaces": directories} if directories else {})}}
    create_instance(session, body, wait)
    if wait:
        note(f"{new['name']} is isolated: it contacts no other server until `strongroom instance activate {new['name']}`.")


def _replace_with_moment(
    session: Session, plan: Mapping[str, Any], in_place: str, point: Mapping[str, Any], yes: bool, wait: bool
) -> None:
    """Restore in place to a moment."""
    replaced = session.client.get("instances", in_place)["instance"]
    name = replaced["name"]
    if plan["instance_id"] != replaced["id"]:
        warn(f"Warning: this is the past of another instance, {plan['instance_name']}; its data replaces that of {name}.")
    lost = f"Later changes in {name} are only in the previous data, which is kept."
    confirm(f"{lost}\nReplace the data of {name} with that of {plan['instance_name']} at {moment.format_target(plan)}?", yes)
    reply = session.client.post("instances", replaced["id"], "action", json={"restore": point})
    job = session.finish(reply.job, wait)
    if job is not None and "cut" in job["output"]:
        note(f"Restored up to position {job['output']['cut']['position']}.")
    show_instance(session, replaced["id"])


def _describe_other_source(backup: Mapping[str, Any], target: Mapping[str, Any]) -> str:
    """The warning if a backup of another instance is restored in place, maybe an earlier one of the same name."""
    here = f"{target['name']} ({target['id'][:8]}, created {format_moment(target['created'])} UTC)"
    if not backup["instance_id"]:
        return f"Warning: the instance of backup {backup['name']} is unknown; its data replaces that of {here}."
    namesake = ", an earlier instance of the same name" if backup["instance_name"] == target["name"] else ""
    source = f"{backup['instance_name']} ({backup['instance_id'][:8]}{namesake})"
    return f"Warning: backup {backup['name']} was taken from another instance, {source}; its data replaces that of {here}."


@contextmanager
def name_good_backups(session: Session, failed: Mapping[str, Any]) -> Iterator[None]:
    """Add other restorable backups of the same instance to the error of a failed restore."""
    try:
        yield
    except JobError as error:
        if isinstance(error, Cancelled):
            raise
        raise type(error)(error.message, remedy=f"{error.remedy}\n{_name_good(session, failed)}".strip()) from error


def _name_good(session: Session, failed: Mapping[str, Any]) -> str:
    """The newest restorable backups of the same instance, verified ones first."""
    if not failed["instance_id"]:
        return ""
    try:
        listed = session.client.items("backups", instance_id=failed["instance_id"], limit=_SEARCHED)
        good = [b for b in islice(listed, _SEARCHED) if b["restorable"] and b["id"] != failed["id"]]
    except StrongroomError:
        return ""
    if not good:
        return f"No other backup of {failed['instance_name']} can be restored."
    good.sort(key=lambda b: not (b["verified"] and b["verified"]["ok"]))  # a stable sort, so that newer ones remain first
    now = datetime.now(UTC)
    told = [f"{b['name']} ({b['id'][:8]}, {format_age(b['created'], now)}, {_format_proof(b)})" for b in good[:_NAMED]]
    return f"Other restorable backups of {failed['instance_name']}: {'; '.join(told)}."


def _format_proof(backup: Mapping[str, Any]) -> str:
    return "verified" if backup["verified"] and backup["verified"]["ok"] else "never verified"


def _parse_directories(tablespaces: Sequence[str]) -> dict[str, str]:
    """Parse OLD=NEW arguments at their last =, so OLD may contain =."""
    found = {}
    for text in tablespaces:
        old, _, new = text.rpartition("=")
        if not old or not new.startswith("/"):
            raise InvalidRequest(
                f"--tablespace {text!r} is not OLD=NEW", remedy="NEW is an absolute path: --tablespace data=/srv/data"
            )
        if old in found:
            raise InvalidRequest(f"--tablespace contains {old!r} twice", remedy="Specify each tablespace once.")
        found[old] = new
    return found
