"""The backups that log archives need: a log is of use only with a backup that ended in it. After a gap, one is taken at once."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Instance, Job, LogArchive, Policy, PolicyRun, Schedule
from strongroom.catalog.find import chain_of, unfinished_jobs
from strongroom.catalog.policies import close_incident, open_incident
from strongroom.errors import Busy, Conflict, InvalidRequest, StrongroomError
from strongroom.flows.policies.attempts import begin_attempt
from strongroom.flows.policies.runs import new_run
from strongroom.flows.site import Site

log = structlog.get_logger()

GAP = "log gap"
"""Condition of an incident: a part of the log is missing, and no backup has been completed since."""
AGAIN = timedelta(minutes=30)
"""Time until another backup is begun if one failed in all attempts."""
_FIRST = "first"


def has_base(session: Session, row: LogArchive) -> bool:
    """Whether a good backup ended in the uninterrupted part of the log. After a gap it must also have begun in it."""
    if row.began_at is None:
        return True  # nothing is known yet
    at = Backup.finished if row.began == _FIRST else Backup.started
    own = select(Backup).where(
        Backup.instance_id == row.instance_id,
        Backup.status == "COMPLETED",
        Backup.trashed.is_(False),
        Backup.deleted.is_(None),
        at >= row.began_at,
    )
    return any(_is_good(session, backup) for backup in session.scalars(own.order_by(Backup.created.desc())))


def note_gap(session: Session, row: LogArchive, instance: Instance, *, is_based: bool) -> None:
    """Open the incident of a gap, or close it because a backup was completed since."""
    if is_based or row.began == _FIRST:
        close_incident(session, instance.id, GAP)
        return
    since = f" at {row.began_at:%Y-%m-%d %H:%M:%S} UTC" if row.began_at else ""
    open_incident(
        session,
        instance,
        GAP,
        f"the log archive has a gap before its new beginning{since}: {row.began_reason or row.began}",
        "A backup begins automatically; moments after it can be restored when it is complete.",
    )


def begin_base(session: Session, site: Site, row: LogArchive, instance: Instance, policy: Policy, at: datetime) -> Job | None:
    """Begin the backup that the log needs, unless one runs or waits. Returns its job, to start after the commit."""
    if not _may_begin(session, row, instance, policy, at):
        return None
    why = "the log archive has no backup yet" if row.began == _FIRST else "the log archive has a gap"
    run = new_run(policy, instance, at, "incremental" if policy.spec.incremental else "full")
    try:
        with session.begin_nested():
            _, job = begin_attempt(session, site, run, instance, policy, at, why=why)
            session.add(run)
            schedule = session.get(Schedule, instance.id)
            if schedule is not None:  # it is tried again as any run of the policy
                schedule.run_id = run.id
    except (Busy, Conflict):
        return None
    except StrongroomError as error:
        row.backup_at = at
        log.warning("cannot begin the backup that a log archive needs", instance=instance.name, reason=error.message)
        return None
    row.backup_at = at
    log.info("a backup begins", policy=policy.name, database=instance.name, reason=why, job=job.id)
    return job


def _may_begin(session: Session, row: LogArchive, instance: Instance, policy: Policy, at: datetime) -> bool:
    if row.backup_at is not None and row.backup_at <= at < row.backup_at + AGAIN:
        return False
    if instance.state != "running" or instance.task is not None or policy.is_paused(at):
        return False
    schedule = session.get(Schedule, instance.id)
    if schedule is not None:
        run = session.get(PolicyRun, schedule.run_id) if schedule.run_id else None
        if schedule.first is not None or schedule.retry is not None or (run is not None and run.finished is None):
            return False  # the schedules take one soon
    try:
        is_blackout = policy.plan.find_blackout_end(at) is not None
    except InvalidRequest:  # its time zone does not exist any more; the schedule has an incident
        return False
    if is_blackout:
        return False
    return not list(unfinished_jobs(session, instance_id=instance.id))


def _is_good(session: Session, backup: Backup) -> bool:
    try:
        return all(link.status == "COMPLETED" and not link.is_damaged for link in chain_of(session, backup))
    except StrongroomError:  # a parent is gone
        return False
