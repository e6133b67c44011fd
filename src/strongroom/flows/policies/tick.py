"""Begins due runs: each together with its job in one transaction, so that it happens exactly once."""

from __future__ import annotations

from datetime import datetime
from itertools import islice

import structlog
from sqlalchemy import func, or_, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from strongroom.catalog import Job, Policy, Schedule, now
from strongroom.flows.policies.coverage import BATCH, cover_databases
from strongroom.flows.policies.ends import find_database, remove_schedule
from strongroom.flows.policies.turn import WAIT, Turn
from strongroom.flows.site import Site
from strongroom.protection.runs import AHEAD

log = structlog.get_logger()

LONGEST_SLEEP = 60.0
"""In seconds. Limited because asyncio's clock ignores changes of the wall clock, and stops while the machine sleeps."""


def begin_due_runs(site: Site, at: datetime | None = None) -> float | None:
    """Begin what is due at ``at`` (default: now). Returns the seconds until the next call; None if there are no schedules."""
    moment = at or now()
    cover_databases(site, moment)
    waiting = iter(_list_due(site, moment))
    while batch := list(islice(waiting, BATCH)):
        with site.catalog.write() as session:
            jobs = [job for key in batch if (job := _take_turn(session, site, key, moment)) is not None]
        for job in jobs:
            site.start(job)
    with site.catalog.read() as session:
        wake: datetime | None = session.scalar(select(func.min(Schedule.wake)))
    if wake is None:
        return None
    return min(max((wake - now()).total_seconds(), 0.05), LONGEST_SLEEP)


def _list_due(site: Site, at: datetime) -> list[str]:
    """Databases with something due, or with a time far in the future, which a wrong clock has written."""
    due = or_(Schedule.wake <= at, Schedule.waiting != "", Schedule.handled > at + AHEAD)
    with site.catalog.read() as session:
        return list(session.scalars(select(Schedule.database_id).where(due).order_by(Schedule.wake, Schedule.database_id)))


def _take_turn(session: Session, site: Site, database_id: str, at: datetime) -> Job | None:
    """Handle one database. A defect stops only this database, and only for a while."""
    row = session.get(Schedule, database_id)
    if row is None or not (row.waiting or row.handled > at + AHEAD or (row.wake is not None and row.wake <= at)):
        return None  # another service was faster
    policy = session.get(Policy, row.policy_id)
    database = find_database(session, database_id)
    if policy is None or database is None:
        remove_schedule(session, row)
        return None
    try:
        with session.begin_nested():
            return Turn(session, site, row, policy, database, at).take()
    except DBAPIError:
        raise
    except Exception:
        log.exception("a schedule could not be followed", policy=policy.name, database=database.name)
        session.refresh(row)
        row.wake = at + WAIT
        return None
