"""One turn of retention for one database: unmark, mark, sweep.

The store is read first, completely. Then everything is decided again in one transaction, from the rows of that moment. A hold, an
undelete or a restore that was committed before therefore wins.
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
from strongroom.flows.retention.holdings import Holdings, load_holdings, load_many_holdings, load_shared, make_imported_holdings
from strongroom.flows.retention.marks import Cause, grace_of, mark, unmark
from strongroom.flows.site import Site
from strongroom.protection.durations import format_duration
from strongroom.protection.policy import PolicySpec
from strongroom.protection.retention import LEFTOVERS_STAY

log = structlog.get_logger()

CHANGED_POLICY_WAITS = timedelta(hours=24)
"""A backup that expires only because the policy changed stays at least this long, so that mistakes are noticed."""
RETRY = timedelta(days=1)
"""A failed removal is repeated after this time."""
WAITS = "retention waits"
UNREADABLE = "store unreadable"
UNDELETABLE = "not deletable"
FAILED = "retention failed"
_CONDITIONS = (WAITS, UNREADABLE, UNDELETABLE, FAILED)


@dataclass(frozen=True, slots=True)
class Change:
    """The marks that the rules add and remove for a database."""

    unmark: list[Backup]
    mark: list[Backup]
    marked: frozenset[str]
    """Ids of all backups that are marked by retention after the change."""


_BATCH = 100
"""Number of databases that are read together, which bounds the memory."""


def select_databases(site: Site, database_ids: Sequence[str]) -> list[str]:
    """The databases for which a turn has something to do, or for which that cannot be decided. A few queries for all of them."""
    found = []
    for start in range(0, len(database_ids), _BATCH):
        batch = database_ids[start : start + _BATCH]
        with site.catalog.read() as session:
            shared, reported = load_shared(session), _list_reported(session, batch)
            many = load_many_holdings(session, batch, shared)
            found += [key for key, holdings in many.items() if key in reported or _has_work(holdings)]
    return found


def _has_work(holdings: Holdings) -> bool:
    try:
        change = find_change(holdings, None, now())
    except Exception:  # noqa: BLE001 - the turn of this database fails and reports why; the other databases continue
        return True
    return bool(change.mark or change.unmark or find_due(holdings, change) or _list_undeletable(holdings))


def apply_rules(site: Site, database_id: str, *, jump: str = "") -> list[Job]:
    """Unmark, mark and sweep the backups of a database. Returns the queued jobs that delete backups.

    ``jump``: why the clock cannot be trusted; empty if it can be. If there is nothing to do, the store is not read and the
    catalog is not written.
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
        _report_unreadable(site, holdings, error)
        return []
    known = {backup.id for backup in holdings.backups}
    with site.catalog.write() as session:
        holdings = load_holdings(session, database_id)
        # backups that were completed meanwhile are in the store: their manifests were read back
        present |= {backup.id for backup in holdings.backups if backup.id not in known}
        jobs = _apply(session, site, holdings, present, jump)
    for job in jobs:
        site.start(job)
    return jobs


def sweep_imported(site: Site) -> list[Job]:
    """Remove the rows of imported backups that a user deleted, after the grace period. Their objects stay in the store."""
    imported = select(Expiration).where(Expiration.database_id == "", Expiration.sweep_at <= now())
    with site.catalog.read() as session:
        if session.scalars(imported.limit(1)).first() is None:
            return []
    with site.catalog.write() as session:
        marks = {row.backup_id: row for row in session.scalars(imported)}
        rows = tuple(row for key in marks if (row := session.get(Backup, key)) is not None)
        holdings = make_imported_holdings(rows, marks, load_shared(session))
        jobs = _begin_sweep(session, find_due(holdings, Change([], [], frozenset())))
    for job in jobs:
        site.start(job)
    return jobs


def _apply(session: Session, site: Site, holdings: Holdings, present: frozenset[str], jump: str) -> list[Job]:
    """Decide again and change the catalog, in the transaction of ``session``."""
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
    """The marks that the rules add and remove. Without a policy, everything is kept."""
    expired = {key for key, row in holdings.marks.items() if not row.by_person}
    candidates = {backup.id: backup for backup in holdings.candidates}
    if holdings.policy is None:
        return Change([candidates[key] for key in expired if key in candidates], [], frozenset())
    decisions = holdings.decide(holdings.to_history(present), at, holdings.policy.spec)
    gone = {key for key, decision in decisions.items() if not decision.is_kept}
    return Change(
        unmark=[candidates[key] for key in expired if key in candidates and key not in gone],
        mark=[candidates[key] for key in gone if key not in expired],
        marked=frozenset(gone),
    )


def _mark(session: Session, site: Site, holdings: Holdings, backups: Sequence[Backup]) -> None:
    policy = holdings.policy
    assert policy is not None
    wait = grace_of(site)
    newest = max((backup.finished or backup.created for backup in holdings.candidates), default=now())
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
    """The rules of a policy, for users: `within 7d, daily 14`."""
    rules = spec.rules
    numbers = {name: getattr(rules, name) for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly")}
    words = [f"within {format_duration(rules.within)}"] if rules.within else []
    return ", ".join([*words, *(f"{name} {number}" for name, number in numbers.items() if number)])


def find_due(holdings: Holdings, change: Change) -> list[Backup]:
    """Marked backups whose grace period has ended and that are not held, in use, or parents of others. Children come first."""
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
    """Begin to delete the backups: one job for each backup whose parent stays, with all its descendants."""
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
            log.warning("a backup is not removed, because others are based on it", backup=backup.id)
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
    """Marked backups whose removal failed. It is repeated later."""
    return [backup for backup in holdings.backups if backup.status == "DELETE_FAILED" and backup.id in holdings.marks]


def _list_reported(session: Session, database_ids: Sequence[str]) -> frozenset[str]:
    """The databases that have an open incident of retention."""
    query = select(Incident.database_id).where(
        Incident.database_id.in_(database_ids),
        Incident.condition.in_(_CONDITIONS),
        Incident.closed.is_(None),
    )
    return frozenset(session.scalars(query))


def _report_unreadable(site: Site, holdings: Holdings, error: StrongroomError) -> None:
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
