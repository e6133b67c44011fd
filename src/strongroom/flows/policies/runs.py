"""The rows of runs: those that begin, and those that do not take place."""

from __future__ import annotations

from datetime import datetime

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Policy, PolicyRun, Schedule
from strongroom.catalog.policies import Database
from strongroom.errors import InvalidRequest
from strongroom.protection.runs import Kind, Miss, Missed, find_due, make_missed_id, make_run_id

log = structlog.get_logger()


def new_run(policy: Policy, database: Database, nominal: datetime, kind: Kind, *, by_hand: bool = False) -> PolicyRun:
    """A run that begins now. The caller adds it to the session."""
    return PolicyRun(
        id=make_run_id(policy.id, database.id, nominal),
        project=database.project,
        policy_id=policy.id,
        database_id=database.id,
        nominal=nominal,
        last=nominal,
        kind=kind,
        outcome="running",
        by_hand=by_hand,
        attempts=0,
    )


def record_missed(
    session: Session, policy: Policy, database: Database, missed: Missed, kind: Kind, reason: str, at: datetime
) -> None:
    """Record runs that did not take place. They extend the newest row if that has the same reason."""
    newest = session.scalars(
        select(PolicyRun)
        .where(PolicyRun.database_id == database.id, PolicyRun.nominal <= missed.first)
        .order_by(PolicyRun.nominal.desc(), PolicyRun.created.desc())
        .limit(1)
    ).one_or_none()
    if newest is not None and _continues(newest, policy, missed, reason):
        newest.last, newest.count, newest.finished = missed.last, newest.count + missed.count, at
    elif session.get(PolicyRun, key := make_missed_id(policy.id, database.id, missed.first)) is None:
        run = new_run(policy, database, missed.first, kind)
        run.id, run.last, run.count = key, missed.last, missed.count
        run.outcome, run.reason, run.finished = "missed", reason, at
        session.add(run)
    log.warning("runs were missed", policy=policy.name, database=database.name, count=missed.count, reason=reason)


def record_dropped(session: Session, policy: Policy, database: Database, schedule: Schedule, at: datetime, reason: Miss) -> None:
    """Record the runs that are due but have not begun, before the schedule changes or ends.

    If one of them was a full, the next run is one.
    """
    if schedule.first is not None:  # the first full takes their place
        return
    try:
        due = find_due(policy.plan, handled=schedule.handled, now=at, obstacle=reason, full_owed=schedule.full_owed)
    except InvalidRequest:  # the time zone does not exist any more: nothing was due
        return
    for missed in due.missed:
        record_missed(session, policy, database, missed, due.kind, str(missed.reason), at)
    if due.missed:
        schedule.handled = due.handled
        schedule.full_owed = schedule.full_owed or due.kind == "full"


def _continues(newest: PolicyRun, policy: Policy, missed: Missed, reason: str) -> bool:
    """Whether the missed runs directly follow others that were missed for the same reason."""
    return newest.outcome == "missed" and newest.policy_id == policy.id and newest.reason == reason and newest.last < missed.first
