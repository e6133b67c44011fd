"""One turn of retention for one database: unmark, mark, sweep.

The store is read first, completely. Everything is then decided again in one transaction: what it marks, unmarks or begins to
delete rests on the rows of that moment, so a hold, an undelete or a restore that was committed before wins.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Expiration, Incident, Job, now
from strongroom.catalog.policies import close_incident, open_incident
from strongroom.errors import StrongroomError
from strongroom.flows.kinds.deletion import begin_deletion, refuse_deletion
from strongroom.flows.policies.ends import describe_remedy
from strongroom.flows.retention.brakes import Brake, find_brake
from strongroom.flows.retention.clocks import read_served
from strongroom.flows.retention.facts import read_present
from strongroom.flows.retention.holdings import Holdings, load_holdings, load_many_holdings, load_shared, of_nobody
from strongroom.flows.retention.marks import Cause, grace_of, mark, unmark
from strongroom.flows.site import Site
from strongroom.protection.durations import format_duration
from strongroom.protection.policy import PolicySpec
from strongroom.protection.retention import LEFTOVERS_STAY

log = structlog.get_logger()

CHANGED_POLICY_WAITS = timedelta(hours=24)
"""What only a changed policy lets go stays at least this long: a mistake is noticed in a day, not in an hour."""
RETRY = timedelta(days=1)
"""What could not be deleted is tried again after this time."""
WAITS = "retention waits"
UNREADABLE = "store unreadable"
UNDELETABLE = "not deletable"
FAILED = "retention failed"
_CONDITIONS = (WAITS, UNREADABLE, UNDELETABLE, FAILED)


@dataclass(frozen=True, slots=True)
class Change:
    """What the rules want to change for a database."""

    unmark: list[Backup]
    mark: list[Backup]
    marked: frozenset[str]
    """Ids of all that retention has marked, after the change."""


_TOGETHER = 100
"""Databases that are looked at together: memory does not grow with their number."""


def find_work(site: Site, database_ids: Sequence[str]) -> list[str]:
    """Those of the databases for which a turn has something to do, or cannot tell. Reads many databases with a few queries."""
    found = []
    for start in range(0, len(database_ids), _TOGETHER):
        together = database_ids[start : start + _TOGETHER]
        with site.catalog.read() as session:
            shared, reported = load_shared(session), _list_reported(session, together)
            many = load_many_holdings(session, together, shared)
            found += [key for key, holdings in many.items() if key in reported or _has_work(holdings)]
    return found


def _has_work(holdings: Holdings) -> bool:
    try:
        change = find_change(holdings, None, now())
    except Exception:  # noqa: BLE001 - the turn of this database fails and reports why; the other databases continue
        return True
    return bool(change.mark or change.unmark or find_due(holdings, change) or _list_undeletable(holdings))


def take_turn(site: Site, database_id: str, *, jump: str = "") -> list[Job]:
    """Unmark, mark and sweep. Returns the jobs that delete; they are queued. ``jump``: why the clock cannot be trusted.

    Without anything to do, neither the store is read nor the catalog written.
    """
    with site.catalog.read() as session:
        holdings = load_holdings(session, database_id)
        change = find_change(holdings, None, now())
        due = find_due(holdings, change)
        reports = _list_reported(session, [database_id]) or _list_undeletable(holdings)
    if not (change.mark or change.unmark or due or reports):
        return []
    try:
        present = read_present(site, holdings.backups)
    except StrongroomError as error:
        _note_unreadable(site, holdings, error)
        return []
    known = {backup.id for backup in holdings.backups}
    with site.catalog.write() as session:
        holdings = load_holdings(session, database_id)
        # what was completed meanwhile was read back from the store when it was recorded
        present |= {backup.id for backup in holdings.backups if backup.id not in known}
        jobs = _apply(session, site, holdings, present, jump)
    for job in jobs:
        site.start(job)
    return jobs


def sweep_imported(site: Site) -> list[Job]:
    """Remove the rows of imported backups that a person deleted, after the grace period. Their objects stay in the store."""
    imported = select(Expiration).where(Expiration.database_id == "", Expiration.sweep_at <= now())
    with site.catalog.read() as session:
        if session.scalars(imported.limit(1)).first() is None:
            return []
    with site.catalog.write() as session:
        marks = {row.backup_id: row for row in session.scalars(imported)}
        rows = tuple(row for key in marks if (row := session.get(Backup, key)) is not None)
        jobs = _begin_sweep(session, find_due(of_nobody(rows, marks, load_shared(session)), Change([], [], frozenset())))
    for job in jobs:
        site.start(job)
    return jobs


def _apply(session: Session, site: Site, holdings: Holdings, present: frozenset[str], jump: str) -> list[Job]:
    """Do it, in one transaction."""
    change = find_change(holdings, present, now())
    if change.unmark:
        unmark(session, change.unmark)
        log.info("backups are kept again", backups=[backup.id for backup in change.unmark])
    policy = holdings.policy
    history = holdings.to_history(present)
    due = find_due(holdings, change)
    expired = [backup.id for backup in due if not holdings.marks[backup.id].by_person]
    brake = find_brake(session, holdings, history, expired, jump=jump)
    if (brake is None or brake.kind == "mass") and policy is not None and change.mark:
        _mark(session, site, holdings, change.mark)
    if brake is not None:
        due = [] if brake.kind == "clock" else [backup for backup in due if holdings.marks[backup.id].by_person]
    jobs = _begin_sweep(session, due)
    _report(session, holdings, brake if change.marked or jump else None)
    return jobs


def find_change(holdings: Holdings, present: Collection[str] | None, at: datetime) -> Change:
    """What the rules want. Without a policy, everything is kept."""
    expired = {key for key, row in holdings.marks.items() if not row.by_person}
    judged = {backup.id: backup for backup in holdings.judged}
    if holdings.policy is None:
        return Change([judged[key] for key in expired if key in judged], [], frozenset())
    decisions = holdings.decide(holdings.to_history(present), at, holdings.policy.spec)
    gone = {key for key, decision in decisions.items() if not decision.is_kept}
    return Change(
        unmark=[judged[key] for key in expired if key in judged and key not in gone],
        mark=[judged[key] for key in gone if key not in expired],
        marked=frozenset(gone),
    )


def _mark(session: Session, site: Site, holdings: Holdings, backups: Sequence[Backup]) -> None:
    policy = holdings.policy
    assert policy is not None
    wait = grace_of(site)
    newest = max((backup.finished or backup.created for backup in holdings.judged), default=now())
    if holdings.policy_since >= min(newest, now() - CHANGED_POLICY_WAITS):
        wait = max(wait, CHANGED_POLICY_WAITS)
    for backup in backups:
        why = f"no rule of policy {policy.name} keeps it ({describe_rules(policy.spec)})"
        if backup.status == "FAILED":
            why = f"failed more than {format_duration(LEFTOVERS_STAY)} ago"
        cause = Cause(why, by_person=False, policy=policy.name, policy_changed_by=policy.updated_by)
        mark(session, [backup], cause, wait=wait, served=read_served(session))
        log.info("a backup has expired", backup=backup.id, name=backup.name, reason=why)


def describe_rules(spec: PolicySpec) -> str:
    """The rules of a policy in a few words."""
    rules = spec.rules
    numbers = {name: getattr(rules, name) for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")}
    words = [f"within {format_duration(rules.within)}"] if rules.within else []
    return ", ".join([*words, *(f"{name} {number}" for name, number in numbers.items() if number)])


def find_due(holdings: Holdings, change: Change) -> list[Backup]:
    """Those whose time has come and that nobody holds, reads or is based on; children before their parents."""
    if not holdings.marks:
        return []
    at, backups = now(), holdings.backups
    kept = {backup.id for backup in change.unmark}
    found: dict[str, Backup] = {}
    for backup in backups:
        row = holdings.marks.get(backup.id)
        if row is None or backup.id in kept or backup.id in holdings.in_use or backup.id in holdings.holds or backup.protected:
            continue
        if not row.by_person and backup.id not in change.marked and backup.status != "DELETE_FAILED":
            continue
        if backup.status in (*Backup.RESTORABLE, "FAILED") or (backup.status == "DELETE_FAILED" and at - backup.updated >= RETRY):
            served_enough = holdings.served - row.served >= (row.sweep_at - row.marked).total_seconds()
            if at >= row.sweep_at and served_enough:
                found[backup.id] = backup
    children: dict[str, list[str]] = {}
    for backup in backups:
        if backup.parent_id is not None:
            children.setdefault(backup.parent_id, []).append(backup.id)
    ordered: list[Backup] = []
    ready: set[str] = set()
    waiting = list(found.values())
    while waiting:  # by levels, from the ends of the chains
        level = [b for b in waiting if all(child in ready for child in children.get(b.id, []))]
        if not level:
            break
        ordered += level
        ready |= {backup.id for backup in level}
        waiting = [backup for backup in waiting if backup.id not in ready]
    return ordered


def _begin_sweep(session: Session, due: Sequence[Backup]) -> list[Job]:
    """Begin to delete them: one job for each backup whose parent stays, with all that are based on it."""
    ids = {backup.id for backup in due}
    jobs = []
    for backup in due:
        if backup.parent_id in ids:
            continue
        try:
            chain = refuse_deletion(session, backup, cascade=True, at_once=True)
        except StrongroomError as error:
            log.info("a backup is not removed now", backup=backup.id, reason=error.message)
            continue
        if not {link.id for link in chain} <= ids:
            log.warning("a backup is not removed: others are based on it", backup=backup.id)
            continue
        jobs.append(begin_deletion(session, backup, chain))
    return jobs


def _report(session: Session, holdings: Holdings, brake: Brake | None) -> None:
    """Open and close the incidents of retention."""
    database = holdings.database
    if database is None:
        return
    for condition in (UNREADABLE, FAILED):
        close_incident(session, database.id, condition)
    if brake is None:
        close_incident(session, database.id, WAITS)
    else:
        remedy = f"See `strongroom retention show {database.name}`, then `strongroom retention confirm {database.name}`."
        open_incident(session, database, WAITS, f"retention waits: {brake.message}", remedy)
    if failed := _list_undeletable(holdings):
        fault = failed[0].fault or {}
        message = f"{len(failed)} expired backups cannot be deleted: {fault.get('message', 'see their faults')}"
        open_incident(session, database, UNDELETABLE, message, fault.get("remedy", ""))
    else:
        close_incident(session, database.id, UNDELETABLE)


def _list_undeletable(holdings: Holdings) -> list[Backup]:
    """Those whose removal failed; it is tried again."""
    return [backup for backup in holdings.backups if backup.status == "DELETE_FAILED" and backup.id in holdings.marks]


def _list_reported(session: Session, database_ids: Sequence[str]) -> frozenset[str]:
    """Those of the databases with an open incident of retention."""
    query = select(Incident.database_id).where(
        Incident.database_id.in_(database_ids),
        Incident.condition.in_(_CONDITIONS),
        Incident.closed.is_(None),
    )
    return frozenset(session.scalars(query))


def _note_unreadable(site: Site, holdings: Holdings, error: StrongroomError) -> None:
    """Nothing is marked or removed for a database whose store cannot be read completely."""
    log.warning("retention waits: the store cannot be read", error=error.code, reason=error.message)
    if holdings.database is not None:
        with site.catalog.write() as session:
            message = f"retention waits: the store cannot be read: {error.message}"
            open_incident(session, holdings.database, UNREADABLE, message, error.remedy)


def report_failure(site: Site, database_id: str, error: StrongroomError) -> None:
    """Open an incident: the rules of the policy cannot be applied to the database, so nothing is marked or removed."""
    with site.catalog.write() as session:
        holdings = load_holdings(session, database_id)
        if holdings.database is None:
            return
        remedy = describe_remedy(error, holdings.policy) if holdings.policy is not None else error.remedy
        open_incident(session, holdings.database, FAILED, f"retention removes nothing: {error.message}", remedy)
