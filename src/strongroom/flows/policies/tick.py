"""Begins due runs: each together with its job in one transaction, so that it happens exactly once."""

from __future__ import annotations

from datetime import datetime
from itertools import islice

import structlog
from sqlalchemy import func, or_, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from strongroom.catalog import Job, Policy, Schedule, now
from strongroom.catalog.policies import Database, close_incident, open_incident
from strongroom.errors import JobError, StrongroomError
from strongroom.flows.policies.coverage import BATCH, cover_databases
from strongroom.flows.policies.ends import STOPPED, describe_remedy, find_database, remove_schedule
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
    """Handle one database. An error stops only this database, opens an incident, and lasts until its cause is gone."""
    row = session.get(Schedule, database_id)
    if row is None or not (row.waiting or row.handled > at + AHEAD or (row.wake is not None and row.wake <= at)):
        return None  # another service was faster
    policy = session.get(Policy, row.policy_id)
    database = find_database(session, database_id)
    if policy is None or database is None:
        remove_schedule(session, row)
        return None
    was_stopped = row.waiting.startswith(STOPPED)
    try:
        with session.begin_nested():
            job = Turn(session, site, row, policy, database, at).take()
    except DBAPIError:
        raise
    except StrongroomError as error:
        _stop(session, row, policy, database, at, error)
        return None
    except Exception:
        log.exception("a schedule could not be followed", policy=policy.name, database=database.name)
        defect = JobError("unexpected error; see the log of the service", remedy="This is a defect: report it with the log.")
        _stop(session, row, policy, database, at, defect)
        return None
    if was_stopped:
        close_incident(session, database.id, STOPPED)
    return job


def _stop(session: Session, row: Schedule, policy: Policy, database: Database, at: datetime, error: StrongroomError) -> None:
    """Show why no run begins, and try again after a while."""
    session.refresh(row)
    waiting = f"{STOPPED}: {error.message}"
    if row.waiting != waiting:
        log.warning("a schedule has stopped", policy=policy.name, database=database.name, reason=error.message)
        detail = f"no run of policy {policy.name} begins: {error.message}"
        open_incident(session, database, STOPPED, detail, describe_remedy(error, policy))
    row.waiting, row.wake = waiting, at + WAIT
