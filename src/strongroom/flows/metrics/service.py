"""Hosts, incidents, schedules and stores in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from sqlalchemy import ScalarSelect, select
from sqlalchemy.orm import Session, aliased

from strongroom.catalog import Host, Incident, Policy, PolicyRun, Schedule
from strongroom.catalog.queries import silent_hosts
from strongroom.errors import InvalidRequest
from strongroom.flows.site import Site
from strongroom.protection.runs import Plan, spread_offset


@dataclass(frozen=True, slots=True)
class HostRow:
    """A machine with an agent."""

    name: str
    seen: datetime | None
    is_silent: bool
    version: str
    free_bytes: int | None


def list_hosts(session: Session) -> list[HostRow]:
    """All hosts that have joined."""
    silent = silent_hosts(session)
    return [
        HostRow(row.name, row.seen, row.name in silent, str(row.view.get("version", "")), row.view.get("free_bytes"))
        for row in session.scalars(select(Host).order_by(Host.name))
        if row.seen is not None
    ]


@dataclass(frozen=True, slots=True)
class IncidentRow:
    """An open incident."""

    database_id: str
    condition: str
    opened: datetime


def list_incidents(session: Session) -> list[IncidentRow]:
    """The open incidents, of all databases."""
    rows = select(Incident.database_id, Incident.condition, Incident.opened).where(Incident.closed.is_(None))
    return [IncidentRow(*row) for row in session.execute(rows)]


@dataclass(frozen=True, slots=True)
class ScheduleRow:
    """The schedules of one database."""

    database_id: str
    policy: str
    next: datetime | None
    """When the next run begins; none if they are paused, or while the first full is waited for."""
    is_paused: bool


def list_schedules(session: Session, at: datetime) -> list[ScheduleRow]:
    """The schedules of all databases."""
    policies = {policy.id: policy for policy in session.scalars(select(Policy))}
    plans = {key: _plan_of(policy) for key, policy in policies.items()}
    rows = select(Schedule.database_id, Schedule.policy_id, Schedule.handled, Schedule.first, Schedule.retry)
    found: list[ScheduleRow] = []
    for database_id, policy_id, handled, first, retry in session.execute(rows):
        policy, plan = policies.get(policy_id), plans.get(policy_id)
        if policy is None:
            continue
        paused = policy.is_paused(at)
        upcoming: datetime | None = None
        if first is not None or retry is not None:
            upcoming = retry
        elif plan is not None and (nominal := _find_next(plan, handled)) is not None:
            upcoming = nominal + spread_offset(policy_id, database_id, plan.spread)
        found.append(ScheduleRow(database_id, policy.name, None if paused else upcoming, paused))
    return found


def _plan_of(policy: Policy) -> Plan | None:
    try:
        return policy.plan
    except InvalidRequest:  # its time zone does not exist any more: `policy list` says so
        return None


@lru_cache(4096)
def _find_next(plan: Plan, handled: datetime) -> datetime | None:
    """The next nominal time. Most databases of a policy have handled the same ones."""
    upcoming = plan.next_after(handled)
    return upcoming[0] if upcoming else None


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest run of a database that has ended."""

    at: datetime
    is_success: bool


ENDED_SINCE = timedelta(days=35)
MISSED_SINCE = timedelta(days=7)
"""Runs are looked for so far back: without a limit, a database without any would take the time of all its runs."""


def list_last_runs(session: Session, at: datetime) -> dict[str, LastRun]:
    """By database, the newest run that ended."""
    newest = _select_newest(("succeeded", "failed", "cancelled"), at - ENDED_SINCE)
    query = select(PolicyRun.database_id, PolicyRun.finished, PolicyRun.nominal, PolicyRun.outcome)
    rows = session.execute(query.join(Schedule, PolicyRun.id == newest))
    return {key: LastRun(finished or nominal, outcome == "succeeded") for key, finished, nominal, outcome in rows}


def list_missed(session: Session, at: datetime) -> dict[str, datetime]:
    """By database, when the newest of the runs was due that did not begin."""
    newest = _select_newest(("missed",), at - MISSED_SINCE)
    rows = session.execute(select(PolicyRun.database_id, PolicyRun.last).join(Schedule, PolicyRun.id == newest))
    return {row.database_id: row.last for row in rows}


def _select_newest(outcomes: tuple[str, ...], since: datetime) -> ScalarSelect[str]:
    """The id of the newest such run of the database of a row of ``Schedule``."""
    run = aliased(PolicyRun)
    return (
        select(run.id)
        .where(run.database_id == Schedule.database_id, run.nominal >= since, run.outcome.in_(outcomes))
        .order_by(run.nominal.desc())
        .limit(1)
        .scalar_subquery()
    )


@dataclass(frozen=True, slots=True)
class StoreRow:
    """A container in a store."""

    container: str
    project: str
    """Empty if the store is shared by all projects."""
    read: datetime
    """When it was last listed completely."""


def list_stores(site: Site) -> tuple[list[StoreRow], dict[tuple[str, str], int]]:
    """The containers, and how often one could not be read since the service started, by container and code of the error."""
    facts = site.watch.facts
    with facts.lock:
        rows = [StoreRow(container, project, read) for (project, container), read in sorted(facts.read.items())]
        return rows, dict(facts.failed)
