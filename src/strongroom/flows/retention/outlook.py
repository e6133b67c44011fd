"""What retention does with each backup of a database: now or at a later time, under its own policy or another one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Confirmation, Instance, Policy, now
from strongroom.catalog.policies import Database, find_policy
from strongroom.errors import Conflict, Forbidden, InvalidRequest, NotFound
from strongroom.flows.policies.requests import find_attachable
from strongroom.flows.retention.brakes import Brake, find_brake
from strongroom.flows.retention.clocks import read_clocks, vouch_for
from strongroom.flows.retention.facts import find_facts
from strongroom.flows.retention.forecast import EXPECTED, expect_until, find_ends
from strongroom.flows.retention.holdings import Holdings, load_holdings
from strongroom.flows.retention.holds import EndingHold, list_ending_holds
from strongroom.flows.retention.turn import describe_rules, find_change, find_due
from strongroom.flows.site import Site
from strongroom.identity import asker
from strongroom.protection.backups import History
from strongroom.protection.clock import format_second
from strongroom.protection.policy import PolicySpec

RETENTION = "retention"
"""Name of the chore."""


Row = TypeVar("Row", Instance, Cluster)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BackupOutlook(_Model):
    """What retention does with one backup."""

    id: str
    name: str
    kind: str
    created: str
    point: str = Field(description="What it restores to.")
    status: str
    stored_size: int
    kept: bool
    reasons: list[str] = Field(description="Why it is kept, the strongest reason first; otherwise why it expires.")
    until: str | None = Field(
        description="When it expires if all runs succeed; null if that cannot be foreseen, or if it has expired already."
    )
    sweep_at: str | None = Field(description="It is not removed from the store before this time; null: it is not marked.")


class Waiting(_Model):
    """Why retention of the database waits for a confirmation."""

    brake: str = Field(description="clock, shrink or mass.")
    message: str
    code: str = Field(description="A confirmation must contain it. It changes when there is something else to confirm.")


class Outlook(_Model):
    """What retention does with the backups of a database."""

    database_id: str
    database: str
    policy: str | None
    rules: str = Field(description="The rules of the policy.")
    at: str
    simulated: bool = Field(description="It is computed for another time or policy; nothing is changed.")
    waiting: Waiting | None
    ending_holds: list[EndingHold] = Field(description="Holds that end within 7 days.")
    kept: int
    expired: int
    expired_bytes: int = Field(description="Bytes in the store of the expired backups.")
    lost: list[str] = Field(description="Moments that can no longer be restored then.")
    backups: list[BackupOutlook] = Field(description="Newest first.")


def show_retention(site: Site, project: str, ref: str, *, at: datetime | None = None, policy: str | None = None) -> Outlook:
    """What retention decides for each backup. Nothing is changed.

    ``at``: simulate this time and the runs until then. ``policy``: simulate this policy.
    Raises NotFound, Conflict, InvalidRequest.
    """
    moment = now()
    if at is not None and at < moment:
        raise InvalidRequest(f"{at:%Y-%m-%d %H:%M} UTC has passed", remedy="Choose a later time, or leave --at out.")
    with site.catalog.read() as session:
        database = find_owner(session, project, ref)
        holdings = load_holdings(session, database.id)
        applied = find_policy(session, project, policy) if policy is not None else holdings.policy
        present, read = find_facts(site, holdings.backups)
        history = holdings.to_history(present if read is not None else None)
        waiting = None if at or policy else find_waiting(session, site, holdings)
        ending = list_ending_holds(session, database.id).get(database.id, [])
    if applied is None:
        return _make_outlook(
            holdings, database, None, moment, {b.id: ("no policy applies",) for b in holdings.candidates}, {}, waiting, ending
        )
    spec = applied.spec
    later = expect_until(history, spec, applied.plan, moment, at) if at is not None else history
    decisions = holdings.decide(later, at or moment, spec)
    reasons = {key: decision.reasons for key, decision in decisions.items()}
    reasons |= {
        b.id: ("failed, but complete in the store: never removed automatically",)
        for b in holdings.candidates
        if b.id not in reasons
    }
    ends = find_ends(history, spec, applied.plan, moment, holdings.holds | holdings.registered) if at is None else {}
    return _make_outlook(
        holdings, database, applied, at or moment, reasons, ends, waiting, ending, history=history, simulated=bool(at or policy)
    )


def confirm_retention(site: Site, project: str, ref: str, code: str, *, is_admin: bool) -> Waiting:
    """Release the brake with this code. A different list of backups has another code. Returns what was confirmed.

    Raises NotFound; Conflict if retention does not wait, or waits for something else; Forbidden (only administrators may confirm
    the clock).
    """
    who = asker.get()[:255] or "unknown user"
    with site.catalog.write() as session:
        database = find_owner(session, project, ref)
        holdings = load_holdings(session, database.id)
        brake = _find_brake(session, site, holdings)
        if brake is None:
            raise Conflict(f"retention of {database.name} does not wait for anything", remedy="There is nothing to confirm.")
        if brake.code != code:
            raise Conflict(
                f"retention of {database.name} waits for something else by now: {brake.message}",
                remedy=f"Look again: `strongroom retention show {database.name}`.",
            )
        if brake.kind == "clock":
            if not is_admin:
                raise Forbidden("only administrators can confirm the clock of the service", remedy="Ask an administrator.")
            vouch_for(session, read_clocks())
            site.watch.jump = ""
        elif brake.kind == "shrink":
            session.merge(Confirmation(database_id=database.id, brake="shrink", what=brake.what, confirmed_by=who, created=now()))
        else:
            for key in brake.what.split():
                holdings.marks[key].confirmed_by = who
    return _describe_brake(brake)


def find_owner(session: Session, project: str, ref: str) -> Database:
    """The instance or cluster; a deleted one by its id. Raises NotFound, Conflict, Unsupported."""
    deleted: Database | None = _find_deleted(session, Instance, project, ref) or _find_deleted(session, Cluster, project, ref)
    if deleted is not None:
        return deleted
    try:
        return find_attachable(session, project, ref)
    except NotFound:
        named = select(Backup.instance_id).where(Backup.project == project, Backup.instance_name == ref, Backup.deleted.is_(None))
        gone = [row for key in set(session.scalars(named)) if key and (row := session.get(Instance, key)) and not row.cluster_id]
        if len(gone) != 1:
            raise
        return gone[0]


def _find_deleted(session: Session, table: type[Row], project: str, ref: str) -> Row | None:
    """The deleted row with this id. For rows of other projects, the queries are the same as for rows that do not exist."""
    return session.scalar(select(table).where(table.id == ref, table.project == project, table.deleted.is_not(None)))


def find_waiting(session: Session, site: Site, holdings: Holdings) -> Waiting | None:
    """Why retention of the database waits, from what is known of the stores. None if it does not."""
    brake = _find_brake(session, site, holdings)
    return _describe_brake(brake) if brake else None


def _describe_brake(brake: Brake) -> Waiting:
    return Waiting(brake=brake.kind, message=brake.message, code=brake.code)


def _find_brake(session: Session, site: Site, holdings: Holdings) -> Brake | None:
    if holdings.policy is None:
        return None
    present, read = find_facts(site, holdings.backups)
    known = present if read is not None else None
    change = find_change(holdings, known, now())
    if not change.marked:
        return None
    due = find_due(holdings, change)
    expired = [backup.id for backup in due if not holdings.marks[backup.id].by_person]
    return find_brake(session, holdings, holdings.to_history(known), expired, jump=site.watch.jump)


def _make_outlook(
    holdings: Holdings,
    database: Database,
    policy: Policy | None,
    at: datetime,
    reasons: Mapping[str, tuple[str, ...]],
    ends: Mapping[str, datetime],
    waiting: Waiting | None,
    ending: list[EndingHold],
    *,
    history: History | None = None,
    simulated: bool = False,
) -> Outlook:
    names = {backup.id: backup.name for backup in holdings.backups}
    backups = [
        _describe_backup(backup, holdings, policy.spec if policy else None, reasons.get(backup.id), ends, names)
        for backup in sorted(holdings.backups, key=lambda b: (b.created, b.id), reverse=True)
    ]
    gone = {backup.id for backup in backups if not backup.kept}
    good = [b for b in history.backups if history.is_good(b)] if history else []
    return Outlook(
        database_id=database.id,
        database=database.name,
        policy=policy.name if policy else None,
        rules=describe_rules(policy.spec) if policy else "",
        at=format_second(at),
        simulated=simulated,
        waiting=waiting,
        ending_holds=ending,
        kept=len(backups) - len(gone),
        expired=len(gone),
        expired_bytes=sum(backup.stored_size for backup in backups if not backup.kept),
        lost=[format_second(b.point) for b in good if b.id in gone],
        backups=backups,
    )


def _describe_backup(
    backup: Backup,
    holdings: Holdings,
    spec: PolicySpec | None,
    reasons: tuple[str, ...] | None,
    ends: Mapping[str, datetime],
    names: Mapping[str, str],
) -> BackupOutlook:
    mark = holdings.marks.get(backup.id)
    if reasons is None:  # a user deleted it, or it is being removed
        why = [mark.reason if mark else "is being deleted"]
    elif reasons:
        held = backup.id in holdings.holds
        why = [_name_backup(reason, names) for reason in reasons if held or reason != "hold"]
    else:
        why = [mark.reason if mark else f"no rule keeps it ({describe_rules(spec)})" if spec else ""]
    if backup.id in holdings.registered:
        why.append("registered as another backup")
    if backup.id in holdings.in_use:
        why.append("in use by a job")
    kept = bool(reasons)
    return BackupOutlook(
        id=backup.id,
        name=backup.name,
        kind=backup.kind,
        created=format_second(backup.created),
        point=format_second(backup.finished or backup.started or backup.created) or "",
        status=backup.status,
        stored_size=backup.stored_size or 0,
        kept=kept,
        reasons=why,
        until=format_second(ends.get(backup.id)) if kept else None,
        sweep_at=format_second(mark.sweep_at) if mark else None,
    )


def _name_backup(reason: str, names: Mapping[str, str]) -> str:
    """The reason with the name of the backup instead of its id."""
    head, found, key = reason.partition("needed by ")
    return f"{head}{found}{key if key.startswith(EXPECTED) else names.get(key, key)}" if found else reason
