"""Keeps the schedules of databases up to date: a database has one if a policy with a schedule applies to it."""

from __future__ import annotations

from datetime import datetime

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Attachment, Cluster, Instance, Policy, Schedule
from strongroom.catalog.policies import close_incident
from strongroom.flows.policies.ends import FAILING, STOPPED, STUCK, find_database, remove_schedule
from strongroom.flows.policies.runs import record_dropped
from strongroom.flows.site import Site
from strongroom.protection.runs import Miss, spread_offset

log = structlog.get_logger()

BATCH = 10
"""Schedules of one transaction, so that other writers do not wait long."""

_ATTACHED = select(Attachment.project, Attachment.database_id, Attachment.policy_id)
_HELD = select(Schedule.database_id, Schedule.policy_id)
_INSTANCES = select(Instance.id, Instance.project).where(Instance.deleted.is_(None), Instance.cluster_id.is_(None))
_CLUSTERS = select(Cluster.id, Cluster.project).where(Cluster.deleted.is_(None))


def cover_databases(site: Site, at: datetime) -> None:
    """Add, change and remove schedules so that they match the policies of databases. Writes nothing if they already do."""
    with site.catalog.read() as session:
        wanted, held = _list_wanted(session), _list_held(session)
    changed = {key: policy_id for key, policy_id in wanted.items() if held.get(key) != policy_id}
    gone = held.keys() - wanted.keys()
    if not changed and not gone:
        return
    keys = [*gone, *changed]
    for start in range(0, len(keys), BATCH):
        with site.catalog.write() as session:
            for key in keys[start : start + BATCH]:
                _follow(session, key, changed.get(key), at)
    log.info("schedules have changed", new=len(changed), removed=len(gone))


def drop_due_runs(session: Session, policy: Policy, at: datetime) -> None:
    """Record the runs that are due but have not begun, before schedules are changed or resumed."""
    reason = Miss.PAUSED if policy.is_paused(at) else Miss.CHANGED
    for row in session.scalars(select(Schedule).where(Schedule.policy_id == policy.id)):
        if (database := find_database(session, row.database_id)) is not None:
            record_dropped(session, policy, database, row, at, reason)


def restart_schedules(session: Session, policy: Policy, at: datetime) -> None:
    """Count nominal times from now, after schedules were changed or resumed. Runs that have begun continue."""
    for row in session.scalars(select(Schedule).where(Schedule.policy_id == policy.id)):
        if row.waiting.startswith(STOPPED):
            close_incident(session, row.database_id, STOPPED)
        row.handled, row.waiting = at, ""
        upcoming = at if row.first else next_wake(policy, row)
        row.wake = min((time for time in (row.retry, upcoming) if time is not None), default=None)


def next_wake(policy: Policy, row: Schedule) -> datetime | None:
    """When the next run of the database begins, after those that were handled."""
    upcoming = policy.plan.next_after(row.handled)
    return upcoming[0] + spread_offset(policy.id, row.database_id, policy.plan.spread) if upcoming else None


def _follow(session: Session, database_id: str, policy_id: str | None, at: datetime) -> None:
    """Set the schedule of a database; None removes it. Nominal times count from now; without a backup it gets a full first."""
    row = session.get(Schedule, database_id)
    owner = session.get(Instance, database_id) or session.get(Cluster, database_id)
    if row is not None and row.policy_id == policy_id:
        return
    if row is not None:
        if row.waiting.startswith(STOPPED):
            close_incident(session, database_id, STOPPED)
        remove_schedule(session, row)
    if policy_id is None:
        for condition in (FAILING, STUCK):
            close_incident(session, database_id, condition)
    if policy_id is not None and owner is not None:
        begin = at.replace(microsecond=0)
        session.add(
            Schedule(database_id=database_id, policy_id=policy_id, project=owner.project, handled=at, wake=at, first=begin)
        )


def _list_wanted(session: Session) -> dict[str, str]:
    """The policy of each existing database that has one with schedules."""
    attached = {(project, database_id): policy_id for project, database_id, policy_id in session.execute(_ATTACHED)}
    if not attached:
        return {}
    used = select(Policy.id, Policy.document).where(Policy.id.in_(set(attached.values())))
    # The document is not validated here: a policy with a time zone that does not exist any more must stop no other.
    scheduled = {key for key, document in session.execute(used) if document.get("full") or document.get("incremental")}
    wanted = {}
    for query in (_INSTANCES, _CLUSTERS):
        for key, project in session.execute(query):
            policy_id = attached.get((project, key)) or attached.get((project, ""))
            if policy_id is not None and policy_id in scheduled:
                wanted[key] = policy_id
    return wanted


def _list_held(session: Session) -> dict[str, str]:
    return {row.database_id: row.policy_id for row in session.execute(_HELD)}
