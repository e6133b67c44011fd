"""Handles the end of a scheduled job: the run has succeeded, is tried again later, or opens an incident."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Instance, Job, Policy, PolicyRun, Schedule, now
from strongroom.catalog.policies import Database, close_incident, open_incident
from strongroom.errors import Cancelled, InvalidRequest, StrongroomError
from strongroom.flows.kind import Failure
from strongroom.flows.policies.runs import record_dropped
from strongroom.protection.runs import Miss, spread_offset

log = structlog.get_logger()

FAILING = "failing"
"""Condition of an incident: a run failed in all attempts."""
STUCK = "stuck"
"""Condition of an incident: runs are skipped because an earlier one does not end."""
STOPPED = "schedule stopped"
"""Condition of an incident: no run begins because the schedule cannot be evaluated."""
PAUSES = (timedelta(minutes=1), timedelta(minutes=10))
"""Pauses before the second attempt, and before each later one."""
JITTER = 0.2
"""Pauses are up to this fraction longer or shorter, so that failed runs of many databases do not meet again."""
BEFORE_NEXT = timedelta(minutes=5)
"""No attempt begins within this time before the next run."""


def find_database(session: Session, database_id: str) -> Database | None:
    """The existing instance or cluster."""
    row = session.get(Instance, database_id) or session.get(Cluster, database_id)
    return row if row is not None and row.deleted is None else None


def describe_remedy(error: StrongroomError, policy: Policy) -> str:
    """The remedy for an error of a policy that was valid when it was set."""
    if not isinstance(error, InvalidRequest):
        return error.remedy
    return (
        f"Change it: `strongroom policy update {policy.name}`. {error.remedy} "
        "If the time zone is missing only on the host of the service, install the package tzdata there."
    )


def settle_backup(session: Session, job: Job, backup: Backup, failure: Failure | None) -> None:
    """Record the end of a backup job. A good backup, even one requested by a user, closes the incident of failed runs."""
    succeeded = failure is None or backup.status == "COMPLETED"
    run = session.get(PolicyRun, job.params["run"]) if "run" in job.params else None
    if run is not None and run.job_id == job.id and run.finished is None:
        if succeeded:
            _finish(session, run, "succeeded", "")
        else:
            assert failure is not None
            fail_attempt(session, run, failure, now())
    if succeeded:
        close_incident(session, job.cluster_id or job.instance_id or "", FAILING)


def fail_attempt(session: Session, run: PolicyRun, failure: Failure, at: datetime, *, final: bool = False) -> None:
    """Record a failed attempt: try again later, or open an incident if there is no time before the next run."""
    schedule = _find_schedule(session, run)
    policy = session.get(Policy, run.policy_id)
    if failure["code"] == Cancelled.__name__:
        _finish(session, run, "cancelled", failure["message"])
        return
    retry = None if final or run.by_hand or schedule is None or policy is None else _find_retry(run, schedule, policy, at)
    if retry is not None and schedule is not None:
        run.reason = failure["message"]
        schedule.retry = retry
        schedule.wake = min(schedule.wake or retry, retry)
        log.warning("a run failed; it is tried again", run=run.id, attempt=run.attempts, at=f"{retry:%H:%M:%S}")
        return
    if schedule is not None and schedule.run_id == run.id and run.kind == "full" and not run.by_hand:
        schedule.full_owed = True
    _finish(session, run, "failed", failure["message"])
    database = find_database(session, run.database_id)
    if database is not None and schedule is not None and not run.by_hand:
        times = f" {run.attempts} times" if run.attempts > 1 else ""
        detail = f"the run of {run.nominal:%Y-%m-%d %H:%M} UTC failed{times}: {failure['message']}"
        open_incident(session, database, FAILING, detail, failure.get("remedy", ""))


def remove_schedule(session: Session, schedule: Schedule) -> None:
    """Remove the schedule of a database to which its policy does not apply any more.

    A run that is due but has not begun is recorded as missed; one that waits for its next attempt ends. A running job continues.
    """
    policy, database = session.get(Policy, schedule.policy_id), find_database(session, schedule.database_id)
    if policy is not None and database is not None:
        record_dropped(session, policy, database, schedule, now(), Miss.DETACHED)
    run = session.get(PolicyRun, schedule.run_id) if schedule.run_id and schedule.retry is not None else None
    if run is not None and run.finished is None:
        _finish(session, run, "failed", f"{run.reason}; not tried again: the policy does not apply to the database any more")
    session.delete(schedule)
    session.flush()


def _find_retry(run: PolicyRun, schedule: Schedule, policy: Policy, at: datetime) -> datetime | None:
    """When the next attempt begins, if there is one. None if the schedule cannot be evaluated: its time zone does not exist."""
    if run.attempts >= policy.spec.attempts or policy.is_paused(at) or schedule.run_id != run.id:
        return None
    pause = PAUSES[min(run.attempts, len(PAUSES)) - 1]
    begin = at + pause * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - not a secret
    try:
        begin = policy.plan.find_blackout_end(begin) or begin
        upcoming = policy.plan.next_after(schedule.handled)
    except InvalidRequest:
        return None
    if upcoming is None:
        return begin
    limit = upcoming[0] + spread_offset(policy.id, run.database_id, policy.plan.spread) - BEFORE_NEXT
    return begin if begin < limit else None


def _finish(session: Session, run: PolicyRun, outcome: str, reason: str) -> None:
    run.outcome, run.reason, run.finished = outcome, reason, now()
    schedule = _find_schedule(session, run)
    if schedule is not None and schedule.run_id == run.id:
        schedule.run_id = schedule.retry = None
        schedule.skipped = 0
        if outcome == "succeeded" and run.kind == "full":
            schedule.full_owed = False
    close_incident(session, run.database_id, STUCK)


def _find_schedule(session: Session, run: PolicyRun) -> Schedule | None:
    schedule = session.get(Schedule, run.database_id)
    return schedule if schedule is not None and schedule.policy_id == run.policy_id else None
