"""Handles the schedule of one database: begins a run, repeats a failed one, records missed ones, or waits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cached_property

import structlog
from sqlalchemy.orm import Session

from strongroom.catalog import Instance, Job, Policy, PolicyRun, Schedule
from strongroom.catalog.policies import Database, open_incident
from strongroom.catalog.queries import silent_hosts
from strongroom.errors import Busy, Conflict, StrongroomError
from strongroom.flows.policies.attempts import begin_attempt, has_usable_backup
from strongroom.flows.policies.coverage import next_wake
from strongroom.flows.policies.ends import STOPPED, STUCK, fail_attempt
from strongroom.flows.policies.runs import new_run, record_missed
from strongroom.flows.site import Site
from strongroom.protection.runs import (
    AHEAD,
    GRACE,
    Due,
    Kind,
    Miss,
    Missed,
    find_due,
    is_near,
    make_run_id,
    spread_offset,
)

log = structlog.get_logger()

WAIT = timedelta(minutes=1)
"""Time until a database that is not ready is checked again. Events that make it ready wake the chore earlier."""
STUCK_AFTER = 2
"""Number of consecutive skipped runs that opens an incident."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """The result of an attempt to begin a run; empty if it was begun before."""

    run: PolicyRun | None = None
    job: Job | None = None
    why: str = ""
    """Why the database is not ready; it is tried again soon."""
    error: StrongroomError | None = None
    """Why the attempt failed immediately."""


@dataclass(frozen=True)
class Turn:
    """Handles a schedule once, within one transaction."""

    session: Session
    site: Site
    row: Schedule
    policy: Policy
    database: Database
    at: datetime

    def take(self) -> Job | None:
        """Do what is due, and set the time of the next check. Returns the job to start after the commit, if any."""
        row, at = self.row, self.at
        self._reset_future()
        if self._postpone_late():
            return None
        waited, row.waiting = row.waiting, ""
        if row.retry is not None and row.run_id is not None and row.retry <= at and not self._is_next_due():
            return self._try_again()
        if row.first is not None:
            return self._begin_first()
        due = self._find_due()
        if waited.startswith(STOPPED):
            due = _name_stopped(due)
        if due.run is None:
            if waited and due.missed and due.missed[-1].reason is Miss.SERVICE_DOWN:
                due = self._find_due(self._name_miss())
            self._handle(due, waited)
            if row.retry is not None and not due.missed and not waited.startswith(STOPPED):
                row.waiting = waited  # the next attempt still waits
            return None
        result = self._claim(due.run, due.kind)
        if not result.why:
            self._handle(due)
            row.full_owed = row.full_owed and result.run is None
            return self._finish(result)
        if is_near(due.wake, due.run, at):
            self._handle(self._find_due(self._name_miss()), result.why)
        else:
            row.waiting, row.wake = result.why, at + WAIT
        return None

    @cached_property
    def offset(self) -> timedelta:
        """The delay of this database's runs after their nominal times."""
        return spread_offset(self.policy.id, self.database.id, self.policy.plan.spread)

    def _reset_future(self) -> None:
        """Start again from now if the schedule was written while the clock was ahead."""
        row, at = self.row, self.at
        if row.handled > at + AHEAD:
            row.handled = at
            row.first = at.replace(microsecond=0) if row.first is not None else None
            row.retry = at if row.retry is not None else None
            row.wake = at

    def _postpone_late(self) -> bool:
        """Spread runs that are due at once because the service was not running. Returns whether this one was postponed."""
        row, at, plan = self.row, self.at, self.policy.plan
        is_planned = row.wake is not None and row.first is None and row.retry is None and not row.waiting
        if not is_planned or row.wake is None or at - row.wake <= plan.spread + GRACE or not self.offset:
            return False
        row.wake = at + self.offset
        return True

    def _find_due(self, obstacle: Miss | None = None) -> Due:
        if obstacle is None and self.policy.is_paused(self.at):
            obstacle = Miss.PAUSED
        elif obstacle is None and self._is_running():
            obstacle = Miss.OVERLAP
        return find_due(
            self.policy.plan,
            handled=self.row.handled,
            now=self.at,
            offset=self.offset,
            obstacle=obstacle,
            full_owed=self.row.full_owed,
        )

    def _name_miss(self) -> Miss:
        return Miss.HOST_UNREACHABLE if self._unreachable else Miss.NOT_READY

    def _is_running(self) -> bool:
        """Whether the previous run has not ended. If it only waits for another attempt, it is ended: the next run is due."""
        row = self.row
        run = self.session.get(PolicyRun, row.run_id) if row.run_id else None
        if run is None or run.finished is not None:
            row.run_id = row.retry = None
            return False
        if row.retry is not None and self._is_next_due():
            failure = {"code": "RunFailed", "message": run.reason, "remedy": ""}
            fail_attempt(self.session, run, failure, self.at, final=True)
            return False
        return True

    def _is_next_due(self) -> bool:
        wake = next_wake(self.policy, self.row)
        return wake is not None and wake <= self.at

    def _handle(self, due: Due, detail: str = "") -> None:
        """Record missed runs, and set the time of the next check."""
        row = self.row
        for missed in due.missed:
            self._record(missed, due.kind, detail)
        if due.missed and due.run is None and due.kind == "full":
            row.full_owed = True
        row.handled = due.handled
        row.wake = min((time for time in (due.wake, row.retry) if time is not None), default=None)

    def _record(self, missed: Missed, kind: Kind, detail: str) -> None:
        has_detail = detail and missed.reason in (Miss.HOST_UNREACHABLE, Miss.NOT_READY)
        reason = f"{missed.reason}: {detail}" if has_detail else str(missed.reason)
        record_missed(self.session, self.policy, self.database, missed, kind, reason, self.at)
        if missed.reason is Miss.OVERLAP:
            self.row.skipped += missed.count
            if self.row.skipped >= STUCK_AFTER:
                self._report_stuck()

    def _report_stuck(self) -> None:
        run = self.session.get(PolicyRun, self.row.run_id) if self.row.run_id else None
        job = f"job {run.job_id}" if run is not None else "its job"
        open_incident(
            self.session,
            self.database,
            STUCK,
            f"{self.row.skipped} runs were skipped because {job} of the run before has not ended",
            f"Look at it (`strongroom job show {run.job_id}`) or cancel it." if run is not None else "",
        )

    @cached_property
    def _unreachable(self) -> str:
        """Why its host is unreachable; empty if it answers. Clusters choose a node whose host answers."""
        if isinstance(self.database, Instance) and self.database.host in silent_hosts(self.session):
            return f"host {self.database.host} is unreachable"
        return ""

    def _claim(self, nominal: datetime, kind: Kind) -> Attempt:
        """Begin the run, unless it was begun before."""
        if self.session.get(PolicyRun, make_run_id(self.policy.id, self.database.id, nominal)) is not None:
            return Attempt()
        result = self._attempt(new_run(self.policy, self.database, nominal, kind))
        if result.run is not None:
            self.session.add(result.run)
            self.row.run_id = result.run.id
        return result

    def _attempt(self, run: PolicyRun) -> Attempt:
        """Begin the next attempt of the run."""
        if self._unreachable:
            return Attempt(why=self._unreachable)
        try:
            with self.session.begin_nested():
                _, job = begin_attempt(self.session, self.site, run, self.database, self.policy, self.at)
        except (Busy, Conflict) as error:
            return Attempt(why=error.message)
        except StrongroomError as error:
            run.attempts += 1
            return Attempt(run=run, error=error)
        log.info("a run begins", policy=self.policy.name, database=self.database.name, run=run.id, job=job.id)
        return Attempt(run=run, job=job)

    def _finish(self, result: Attempt) -> Job | None:
        """The job to start. If there is none, the attempt has failed: it is tried again, or an incident is opened."""
        if result.run is not None and result.error is not None:
            self.session.flush()
            fail_attempt(self.session, result.run, result.error.to_dict(), self.at)
        return result.job

    def _try_again(self) -> Job | None:
        """Begin the next attempt of a failed run."""
        row = self.row
        run = self.session.get(PolicyRun, row.run_id)
        upcoming = next_wake(self.policy, row)
        if run is None or run.finished is not None or self.policy.is_paused(self.at):
            if run is not None and run.finished is None:
                failure = {"code": "RunFailed", "message": f"{run.reason}; not tried again: the policy is paused", "remedy": ""}
                fail_attempt(self.session, run, failure, self.at, final=True)
            row.run_id = row.retry = None
            row.wake = upcoming
            return None
        end = self.policy.plan.find_blackout_end(self.at)
        result = self._attempt(run) if end is None else Attempt(why="blackout")
        if result.why:
            row.waiting, row.retry = result.why, end or self.at + WAIT
            row.wake = min(row.retry, upcoming) if upcoming else row.retry
            return None
        row.retry, row.wake = None, upcoming
        return self._finish(result)

    def _begin_first(self) -> Job | None:
        """Begin the first full of a database as soon as it is ready."""
        row, at = self.row, self.at
        assert row.first is not None
        if has_usable_backup(self.session, self.database):
            row.first = None
            row.wake = next_wake(self.policy, row)
            return None
        end = self.policy.plan.find_blackout_end(at)
        if self.policy.is_paused(at) or end is not None:
            row.waiting = "paused" if self.policy.is_paused(at) else "blackout"
            row.wake = end or at + WAIT
            return None
        result = self._claim(row.first, "full")
        if result.why:
            row.waiting, row.wake = result.why, at + WAIT
            return None
        row.first, row.handled = None, at
        row.wake = next_wake(self.policy, row)
        return self._finish(result)


def _name_stopped(due: Due) -> Due:
    """The same, if the runs were missed because the schedule could not be evaluated, and not because the service was down."""
    renamed = (replace(missed, reason=Miss.STOPPED) if missed.reason is Miss.SERVICE_DOWN else missed for missed in due.missed)
    return replace(due, missed=tuple(renamed))
