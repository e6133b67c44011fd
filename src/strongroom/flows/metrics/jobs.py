"""Jobs in numbers: the finished ones are counted once, then only what has finished since; the others are read each time."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Cluster, Instance, Job

DURATIONS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 3 * 3600.0, 12 * 3600.0)
"""Seconds: the bounds of the histogram of durations."""
_SLACK = timedelta(minutes=5)
"""A row contains the time at which its transaction began, which is before its commit."""
_BATCH = 5000


@dataclass(frozen=True, slots=True)
class JobKey:
    """What finished jobs are counted by."""

    operation: str
    """The kind of the job."""
    outcome: str
    """succeeded, failed or cancelled."""
    fault: str
    """Code of the error; empty if there is none."""


@dataclass(slots=True)
class Histogram:
    """How many durations are within each bound."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(DURATIONS) + 1))
    """By bound, the last one without; not cumulative."""
    total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.counts[next((n for n, bound in enumerate(DURATIONS) if seconds <= bound), len(DURATIONS))] += 1
        self.total += seconds


class FinishedJobs:
    """Counts the finished jobs of the catalog. The numbers never decrease while the service runs."""

    def __init__(self) -> None:
        self.counts: Counter[JobKey] = Counter()
        self.durations: dict[tuple[str, str], Histogram] = {}
        """By operation and kind of database; of the jobs that succeeded."""
        self._datastores: dict[str, str] = {}
        self._recent: dict[str, datetime] = {}
        """Jobs that were counted and may be found again."""
        self._until: datetime | None = None

    def update(self, session: Session) -> None:
        """Count the jobs that have finished since the last call."""
        query = select(
            Job.id,
            Job.kind,
            Job.status,
            Job.fault["code"].as_string(),
            Job.instance_id,
            Job.cluster_id,
            Job.started,
            Job.finished,
        ).where(Job.finished.is_not(None))
        if self._until is not None:
            query = query.where(Job.finished >= self._until - _SLACK)
        until = self._until
        for id, kind, status, fault, instance, cluster, started, finished in session.execute(
            query.execution_options(yield_per=_BATCH)
        ):
            if id in self._recent:
                continue
            self._recent[id] = finished
            until = max(until or finished, finished)
            self.counts[JobKey(kind, status, fault or "")] += 1
            if status == "succeeded" and started is not None:
                datastore = self._find_datastore(session, instance or cluster)
                key = (kind, datastore)
                self.durations.setdefault(key, Histogram()).add(max(0.0, (finished - started).total_seconds()))
        self._until = until  # at the end: the rows are in no order, and a read may fail
        if until is not None:
            limit = until - _SLACK
            self._recent = {id: finished for id, finished in self._recent.items() if finished >= limit}

    def _find_datastore(self, session: Session, database_id: str | None) -> str:
        """The kind of database of an instance or cluster, also of a deleted one."""
        if not database_id:
            return ""
        if not self._datastores or database_id not in self._datastores:
            self._datastores = {}
            for table in (Instance, Cluster):
                self._datastores |= {row.id: row.datastore for row in session.execute(select(table.id, table.datastore))}
            self._datastores.setdefault(database_id, "")
        return self._datastores[database_id]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Jobs of one host that have not ended."""

    host: str
    """Empty for jobs of the service itself and of clusters."""
    queued: int
    running: int
    oldest: datetime | None
    """When the oldest queued one was requested."""


@dataclass(frozen=True, slots=True)
class Running:
    """A running job of a database whose end is foreseeable."""

    database_id: str
    operation: str
    ratio: float


def list_waiting(session: Session) -> tuple[list[Waiting], list[Running]]:
    """The jobs that have not ended: how many of each host, and how far those of databases are."""
    unfinished = select(Job.host, Job.kind, Job.status, Job.instance_id, Job.cluster_id, Job.done, Job.total, Job.created).where(
        Job.finished.is_(None)
    )
    states: Counter[tuple[str, str]] = Counter()
    oldest: dict[str, datetime] = {}
    progress: dict[tuple[str, str], float] = {}
    for host, kind, status, instance, cluster, done, total, created in session.execute(unfinished):
        host = host or ""
        states[host, status] += 1
        if status == "queued":
            oldest[host] = min(oldest.get(host, created), created)
        elif total and (database := cluster or instance):
            key = (database, kind)
            progress[key] = min(progress.get(key, 1.0), done / total)
    hosts = sorted({host for host, _ in states})
    return (
        [Waiting(host, states[host, "queued"], states[host, "running"], oldest.get(host)) for host in hosts],
        [Running(database, kind, ratio) for (database, kind), ratio in sorted(progress.items())],
    )
