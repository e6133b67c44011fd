"""The status of each database, from the content of the stores and the results of verifications, never from jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import cast

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Incident, Instance, LogArchive, Policy, now
from strongroom.catalog.policies import Attachments, Database, close_incident, open_incident
from strongroom.errors import InvalidRequest
from strongroom.flows.archives.view import LogArchiveView, describe_archive, find_lag, list_archives
from strongroom.flows.policies.ends import STOPPED
from strongroom.flows.policies.listing import ScheduleState, list_schedules
from strongroom.flows.retention.facts import find_facts
from strongroom.flows.retention.holdings import GOING, describe_backup
from strongroom.flows.retention.holds import EndingHold, list_ending_holds
from strongroom.flows.retention.memory import Measured
from strongroom.flows.site import Site
from strongroom.protection.backups import History
from strongroom.protection.clock import format_second
from strongroom.protection.measures import Measures, measure
from strongroom.protection.policy import PolicySpec
from strongroom.protection.status import (
    EXIT_CODES,
    Condition,
    Finding,
    Level,
    Limits,
    Pause,
    Subject,
    find_newest_point,
    find_newest_proof,
    find_worst,
    judge,
    summarize,
)

NO_LIMIT = timedelta(days=36_500)
"""The age limit of a database whose policy has no schedules."""
SHORTEST_SLACK = timedelta(hours=2)
_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
_MOST_GAPS = 800
OPENED = (Condition.DAMAGED, Condition.LATE, Condition.UNKNOWN, Condition.UNPROTECTED)
"""Conditions that open an incident. The incident of a failed run is opened when the run ends."""
SEVERE = (Level.CRITICAL, Level.UNKNOWN)
_COLUMNS = (
    Backup.id,
    Backup.project,
    Backup.container,
    Backup.cluster_id,
    Backup.instance_id,
    Backup.parent_id,
    Backup.kind,
    Backup.status,
    Backup.source,
    Backup.verified,
    Backup.raw_size,
    Backup.stored_size,
    Backup.created,
    Backup.updated,
    Backup.started,
    Backup.finished,
)
"""The columns that a status needs. Reading only these takes a fifth of the time and memory of reading whole backups."""
_BATCH = 50
"""Number of databases whose backups are read together, which bounds the memory."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FindingView(_Model):
    """One condition of a database."""

    condition: Condition
    level: Level
    message: str
    remedy: str


class IncidentView(_Model):
    """An open incident."""

    condition: str
    detail: str
    remedy: str
    opened: str


class Protection(_Model):
    """How well one database is protected."""

    id: str
    name: str
    type: str = Field(description="instance or cluster.")
    project_id: str
    policy: str | None
    state: Condition = Field(description="The most severe condition.")
    level: Level = Field(description="Severity for monitoring systems.")
    conditions: list[FindingView] = Field(description="All conditions, the most severe first.")
    newest: str | None = Field(description="The newest moment that can be restored.")
    newest_verified: str | None = Field(description="The newest moment whose whole chain was verified.")
    restorable: int = Field(description="Backups that can be restored.")
    chain: int = Field(description="Number of backups in the chain of the newest.")
    max_age: int | None = Field(description="Maximum age of the newest backup in seconds; null: no limit.")
    next_run: str | None
    read_at: str | None = Field(description="When its store was last read completely.")
    log_archive: LogArchiveView | None = Field(description="Its log archive; null if its policy demands none.")
    incidents: list[IncidentView]
    ending_holds: list[EndingHold] = Field(description="Holds of its backups that end within 7 days.")


class Overview(_Model):
    """The status of all databases."""

    level: Level
    exit_code: int = Field(description="For monitoring systems: 0 ok, 1 warning, 2 critical, 3 unknown.")
    summary: str = Field(description="One line with performance data.")
    databases: list[Protection] = Field(description="The most severe first.")


def show_protection(site: Site, project: str | None) -> Overview:
    """The status of all existing databases of the project (None: of all projects)."""
    at = now()
    with site.catalog.read() as session:
        incidents, holds = _list_incidents(session, project), list_ending_holds(session)
        found = [
            _make_protection(site, facts, incidents.get(facts.database.id, []), holds.get(facts.database.id, []), at)
            for facts in _list_facts(session, site, project)
        ]
    order = [Level.CRITICAL, Level.UNKNOWN, Level.WARNING, Level.OK]
    found.sort(key=lambda view: (order.index(view.level), view.project_id, view.name, view.id))
    level = find_worst(view.level for view in found)
    states = [
        Finding(view.conditions[0].condition, view.level, view.conditions[0].message, view.conditions[0].remedy) for view in found
    ]
    return Overview(level=level, exit_code=EXIT_CODES[level], summary=summarize(states), databases=found)


def note_incidents(site: Site) -> None:
    """Open and close the incidents of databases that have a policy, by their status. Keeps the measures of all databases."""
    at = now()
    measures: dict[str, Measures] = {}
    with site.catalog.read() as session:
        databases: dict[str, Database] = {}
        found: dict[str, list[Finding]] = {}
        for facts in _list_facts(session, site, None):
            findings = judge(facts.subject, at)
            measures[facts.database.id] = measure(facts.subject, findings, facts.raw_bytes, at)
            if facts.policy is not None:
                databases[facts.database.id], found[facts.database.id] = facts.database, findings
        shown = {
            (row.database_id, row.condition)
            for row in session.scalars(select(Incident).where(Incident.closed.is_(None), Incident.condition.in_(OPENED)))
        }
    site.watch.measured = Measured(at, measures)
    severe = {key: [f for f in findings if f.condition in OPENED and f.level in SEVERE] for key, findings in found.items()}
    wanted = {(key, finding.condition) for key, findings in severe.items() for finding in findings}
    if wanted == shown:
        return
    with site.catalog.write() as session:
        for key, condition in shown - wanted:
            close_incident(session, key, condition)
        for key, condition in wanted - shown:
            finding = next(f for f in severe[key] if f.condition == condition)
            open_incident(session, databases[key], condition, finding.message, finding.remedy)


def measure_databases(session: Session, site: Site, ids: Collection[str]) -> dict[str, Measures]:
    """The measures of these databases now, by id."""
    at = now()
    return {
        facts.database.id: measure(facts.subject, judge(facts.subject, at), facts.raw_bytes, at)
        for facts in _list_facts(session, site, None, ids)
    }


@dataclass(frozen=True, slots=True)
class _Facts:
    """A database with everything that its status depends on."""

    database: Database
    policy: Policy | None
    state: ScheduleState | None
    subject: Subject
    archive: LogArchive | None
    raw_bytes: dict[str, int]
    """Sizes of the backups before compression, by id."""


def _list_facts(session: Session, site: Site, project: str | None, ids: Collection[str] | None = None) -> Iterator[_Facts]:
    """The existing databases of the project (None: of all), or only those with these ids."""
    instances = select(Instance).where(Instance.deleted.is_(None), Instance.cluster_id.is_(None))
    clusters = select(Cluster).where(Cluster.deleted.is_(None))
    if project is not None:
        instances, clusters = instances.where(Instance.project == project), clusters.where(Cluster.project == project)
    if ids is not None:
        instances, clusters = instances.where(Instance.id.in_(ids)), clusters.where(Cluster.id.in_(ids))
    databases: list[Database] = [*session.scalars(instances), *session.scalars(clusters)]
    states = {state.database.id: state for state in list_schedules(session, project)}
    archives = list_archives(session)
    for at in range(0, len(databases), _BATCH):
        batch = databases[at : at + _BATCH]
        backups = _read_backups(session, [row.id for row in batch])
        attachments = Attachments(session, batch)
        for row in batch:
            yield _make_facts(
                site, row, attachments.policy_of(row), backups.get(row.id, []), states.get(row.id), archives.get(row.id)
            )


def _read_backups(session: Session, ids: Sequence[str]) -> dict[str, list[Backup]]:
    """The backups of these databases, by id of the database. They are rows with only ``_COLUMNS``."""
    existing = select(*_COLUMNS).where(Backup.deleted.is_(None), Backup.trashed.is_(False), Backup.status.not_in(GOING))
    found: dict[str, list[Backup]] = {}
    for row in session.execute(existing.where(Backup.instance_id.in_(ids), Backup.cluster_id.is_(None))):
        found.setdefault(row.instance_id, []).append(cast("Backup", row))
    for row in session.execute(existing.where(Backup.cluster_id.in_(ids))):
        found.setdefault(row.cluster_id, []).append(cast("Backup", row))
    return found


def _make_facts(
    site: Site,
    database: Database,
    policy: Policy | None,
    backups: Sequence[Backup],
    state: ScheduleState | None,
    archive: LogArchive | None,
) -> _Facts:
    present, read = find_facts(site, backups)
    history = History([describe_backup(backup, present if read is not None else None, {}) for backup in backups])
    failed = state.last_run if state is not None and state.last_run is not None and state.last_run.outcome == "failed" else None
    waiting = state.schedule.waiting if state is not None else ""
    pause = None
    if policy is not None and policy.paused is not None:
        pause = Pause(policy.paused, policy.paused_by, policy.paused_reason, policy.paused_until)
    spec = policy.spec if policy else None
    subject = Subject(
        name=database.name,
        created=database.created,
        history=history,
        limits=Limits(max_age=_find_max_age(spec, backups), max_proof_age=spec.max_proof_age or None) if spec else None,
        facts_at=read,
        store=", ".join(sorted({backup.container for backup in backups})),
        last_error=failed.reason if failed else "",
        last_remedy="",
        obstacle=waiting if waiting.startswith(STOPPED) else "",
        pause=pause,
        lag=find_lag(site, archive, database, policy, now()),
        policy=policy.name if policy else "POLICY",
    )
    return _Facts(database, policy, state, subject, archive, {backup.id: backup.raw_size or 0 for backup in backups})


def _list_incidents(session: Session, project: str | None) -> dict[str, list[Incident]]:
    """The open incidents, by id of the database. There are few."""
    query = select(Incident).where(Incident.closed.is_(None)).order_by(Incident.opened)
    found: dict[str, list[Incident]] = {}
    for incident in session.scalars(query if project is None else query.where(Incident.project == project)):
        found.setdefault(incident.database_id, []).append(incident)
    return found


def _make_protection(
    site: Site, facts: _Facts, incidents: Sequence[Incident], holds: list[EndingHold], at: datetime
) -> Protection:
    database, subject = facts.database, facts.subject
    findings = judge(subject, at)
    remedies = {incident.condition: incident.remedy for incident in incidents}
    history = subject.history
    good = [backup for backup in history.backups if history.is_good(backup)]
    newest = max(good, key=lambda backup: backup.point, default=None)
    limit = subject.limits.max_age if subject.limits else None
    return Protection(
        id=database.id,
        name=database.name,
        type="cluster" if isinstance(database, Cluster) else "instance",
        project_id=database.project,
        policy=facts.policy.name if facts.policy else None,
        state=findings[0].condition,
        level=find_worst([*(finding.level for finding in findings), *(Level.WARNING for _ in incidents)]),
        conditions=[
            FindingView(
                condition=f.condition, level=f.level, message=f.message, remedy=f.remedy or remedies.get(str(f.condition), "")
            )
            for f in findings
        ],
        newest=format_second(find_newest_point(history, at)),
        newest_verified=format_second(find_newest_proof(history, at)),
        restorable=len(good),
        chain=len(history.list_chain(newest)) if newest else 0,
        max_age=int(limit.total_seconds()) if limit is not None and limit < NO_LIMIT else None,
        next_run=format_second(facts.state.next_run) if facts.state and not facts.state.is_paused else None,
        read_at=format_second(subject.facts_at),
        log_archive=describe_archive(site, facts.archive, database, facts.policy, subject.lag),
        incidents=[
            IncidentView(condition=i.condition, detail=i.detail, remedy=i.remedy, opened=format_second(i.opened))
            for i in incidents
        ],
        ending_holds=holds,
    )


def _find_max_age(spec: PolicySpec, backups: Sequence[Backup]) -> timedelta:
    """The limit of the policy; without one, the longest time between two runs plus some hours for the run itself."""
    if spec.max_age:
        return spec.max_age
    try:
        gap = _find_longest_gap(spec)
    except InvalidRequest:  # its time zone does not exist: others have the same gaps, except for clock changes
        gap = _find_longest_gap(spec.model_copy(update={"time_zone": "UTC"}))
    if gap is None:
        return NO_LIMIT
    completed = (backup for backup in backups if backup.status == "COMPLETED")
    newest = max(completed, key=lambda backup: backup.created, default=None)
    took = newest.finished - newest.started if newest and newest.finished and newest.started else timedelta(0)
    return gap + max(SHORTEST_SLACK, 2 * took)


@lru_cache(1024)
def _find_longest_gap(spec: PolicySpec) -> timedelta | None:
    """The longest time between two runs among the next ``_MOST_GAPS``; None without schedules. Blackouts delay runs."""
    plan = spec.plan(_YEAR)
    upcoming = plan.next_after(_YEAR)
    if upcoming is None:
        return None
    previous, longest = upcoming[0], timedelta(0)
    for _ in range(_MOST_GAPS):
        due = upcoming[0]
        begin = plan.find_blackout_end(due) or due
        longest = max(longest, begin - previous)
        previous = begin
        if (upcoming := plan.next_after(due)) is None:
            break
    return longest
