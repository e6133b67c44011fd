"""Schedules and past runs as users see them: the next run, the last run, and why runs do not take place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, func, select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Instance, Policy, PolicyRun, Schedule, now
from strongroom.catalog.policies import Database
from strongroom.errors import InvalidRequest
from strongroom.protection.runs import AHEAD, Kind, spread_offset


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """The schedule of one database."""

    schedule: Schedule
    policy: Policy
    database: Database
    next_run: datetime | None
    """When the next run begins; none while it waits for its first full."""
    next_kind: Kind
    last_run: PolicyRun | None
    """The newest run that began."""
    last_missed: PolicyRun | None
    """The newest run that did not begin, if it was due after ``last_run``."""
    is_paused: bool


def list_schedules(session: Session, project: str | None, policy_id: str | None = None) -> list[ScheduleState]:
    """Schedules of the project (None: of all), by policy and name of the database."""
    query = select(Schedule, Policy).join(Policy, Policy.id == Schedule.policy_id)
    if project is not None:
        query = query.where(Schedule.project == project)
    if policy_id is not None:
        query = query.where(Schedule.policy_id == policy_id)
    rows = [(schedule, policy) for schedule, policy in session.execute(query)]
    keys = [schedule.database_id for schedule, _ in rows]
    databases = _find_databases(session, keys)
    begun, missed = _find_newest(session, keys, is_missed=False), _find_newest(session, keys, is_missed=True)
    moment = now()
    found = [
        _describe(schedule, policy, databases[schedule.database_id], begun, missed, moment)
        for schedule, policy in rows
        if schedule.database_id in databases
    ]
    return sorted(found, key=lambda state: (state.policy.name, state.database.name, state.database.id))


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run that has begun or did not take place, with the names of what it concerns."""

    run: PolicyRun
    database: Database | None
    """Also a deleted one; None: the catalog does not know it any more."""
    policy_name: str
    """Empty if the policy was deleted."""
    backup_name: str


def list_runs(
    session: Session,
    project: str | None,
    *,
    policy_id: str | None = None,
    database_id: str | None = None,
    outcome: str | None = None,
    since: datetime | None = None,
    limit: int,
) -> list[PastRun]:
    """Runs of the project (None: of all), the one that was due last first."""
    wanted = {
        PolicyRun.project: project,
        PolicyRun.policy_id: policy_id,
        PolicyRun.database_id: database_id,
        PolicyRun.outcome: outcome,
    }
    query = select(PolicyRun).where(*(column == value for column, value in wanted.items() if value is not None))
    if since is not None:
        query = query.where(PolicyRun.last >= since)
    runs = session.scalars(query.order_by(PolicyRun.nominal.desc(), PolicyRun.created.desc(), PolicyRun.id).limit(limit)).all()
    databases = _find_databases(session, sorted({run.database_id for run in runs}), also_deleted=True)
    policies = dict(session.execute(select(Policy.id, Policy.name).where(Policy.id.in_({run.policy_id for run in runs}))).all())
    backups: dict[str, str] = {}
    for batch in _split_batches([run.backup_id for run in runs if run.backup_id]):
        backups |= dict(session.execute(select(Backup.id, Backup.name).where(Backup.id.in_(batch))).all())
    return [
        PastRun(run, databases.get(run.database_id), policies.get(run.policy_id, ""), backups.get(run.backup_id or "", ""))
        for run in runs
    ]


def preview_runs(policy: Policy, count: int = 5) -> list[tuple[datetime, Kind]]:
    """The next nominal times of a policy."""
    found: list[tuple[datetime, Kind]] = []
    at = now()
    while len(found) < count and (upcoming := policy.plan.next_after(at)) is not None:
        found.append(upcoming)
        at = upcoming[0]
    return found


def _describe(
    schedule: Schedule,
    policy: Policy,
    database: Database,
    begun: dict[str, PolicyRun],
    missed: dict[str, PolicyRun],
    at: datetime,
) -> ScheduleState:
    try:
        upcoming = policy.plan.next_after(schedule.handled)
    except InvalidRequest:  # its time zone does not exist any more: `policy list` says so
        upcoming = None
    next_run = upcoming[0] + spread_offset(policy.id, database.id, policy.plan.spread) if upcoming else None
    kind: Kind = upcoming[1] if upcoming else "full"
    if schedule.first is not None or schedule.retry is not None:
        next_run = schedule.retry
    last, skipped = begun.get(database.id), missed.get(database.id)
    if last is not None and skipped is not None and skipped.last < last.nominal:
        skipped = None
    if schedule.full_owed or schedule.first is not None:
        kind = "full"
    return ScheduleState(schedule, policy, database, next_run, kind, last, skipped, policy.is_paused(at))


def _find_databases(session: Session, keys: list[str], *, also_deleted: bool = False) -> dict[str, Database]:
    found: dict[str, Database] = {}
    for batch in _split_batches(keys):
        for row in session.scalars(select(Instance).where(Instance.id.in_(batch))):
            found[row.id] = row
        for cluster in session.scalars(select(Cluster).where(Cluster.id.in_(batch))):
            found[cluster.id] = cluster
    return {key: row for key, row in found.items() if also_deleted or row.deleted is None}


def _find_newest(session: Session, keys: list[str], *, is_missed: bool) -> dict[str, PolicyRun]:
    """The newest run of each database: of the missed ones, or of the others. Not one that a wrong clock has put in the future."""
    outcome = and_(
        PolicyRun.outcome == "missed" if is_missed else PolicyRun.outcome != "missed", PolicyRun.nominal <= now() + AHEAD
    )
    found: dict[str, PolicyRun] = {}
    for batch in _split_batches(keys):
        newest = (
            select(PolicyRun.database_id, func.max(PolicyRun.nominal).label("nominal"))
            .where(outcome, PolicyRun.database_id.in_(batch))
            .group_by(PolicyRun.database_id)
            .subquery()
        )
        same = (PolicyRun.database_id == newest.c.database_id) & (PolicyRun.nominal == newest.c.nominal)
        found |= {run.database_id: run for run in session.scalars(select(PolicyRun).join(newest, same).where(outcome))}
    return found


def _split_batches(keys: list[str], size: int = 500) -> Iterable[list[str]]:
    return (keys[at : at + size] for at in range(0, len(keys), size))
