"""The families of metrics: their names, labels and values. docs/monitoring.md describes them.

Labels take few values: names of databases, hosts, policies and containers, and words of this program, but never messages. What is
not known, or never happened, is left out; 0 would be read as a value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from strongroom import __version__
from strongroom.catalog import now
from strongroom.flows import Site
from strongroom.flows.metrics import (
    DURATIONS,
    DatabaseRow,
    FinishedJobs,
    list_failures,
    list_hosts,
    list_incidents,
    list_last_runs,
    list_log_archives,
    list_missed,
    list_rows,
    list_schedules,
    list_stores,
    list_waiting,
)

DATABASE = ("project", "db")
Rows = Iterable[tuple[Sequence[str], float | datetime | timedelta | None]]
"""Values by labels; None is left out."""


def make_page(site: Site, jobs: FinishedJobs) -> bytes:
    """All metrics in the text format."""
    at = now()
    with site.catalog.read() as session:
        jobs.update(session)
        databases = list_rows(session, site, at)
        families = [
            *_describe_service(site, at),
            *_describe_databases(databases),
            *_describe_backups(session, databases),
            *_describe_log_archives(session, site, databases, at),
            *_describe_policies(session, databases, at),
            *_describe_waiting_jobs(session, databases),
            *_describe_finished_jobs(jobs),
            *_describe_hosts(session),
        ]
    return generate_latest(_Families(families))


class _Families(Collector):
    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _describe_service(site: Site, at: datetime) -> Iterator[Metric]:
    yield _gauge("build_info", "The version of the service.", ("version",), [((__version__,), 1)])
    yield _gauge("metrics_timestamp_seconds", "When these metrics were made.", (), [((), at)])
    yield _gauge(
        "control_tick_timestamp_seconds", "When the service last looked for work of retention.", (), [((), site.watch.checked)]
    )
    stores, failed = list_stores(site)
    yield _gauge(
        "store_read_timestamp_seconds",
        "When a container was last listed completely. The project is empty if all projects share it.",
        ("project", "store"),
        [((row.project, row.container), row.read) for row in stores],
    )
    errors = CounterMetricFamily(
        "strongroom_store_errors", "How often a container could not be listed, by code of the error.", labels=("store", "fault")
    )
    for key, count in sorted(failed.items()):
        errors.add_metric(key, count)
    yield errors


def _describe_databases(databases: Sequence[DatabaseRow]) -> Iterator[Metric]:
    yield _gauge(
        "db_info",
        "A database: an instance, or a cluster.",
        (*DATABASE, "db_id", "type", "engine", "engine_version", "host"),
        [
            ((*_of(row), row.id, "cluster" if row.is_cluster else "instance", row.datastore, row.version, row.host), 1)
            for row in databases
        ],
    )
    yield _gauge(
        "db_data_bytes",
        "Size of the data of an instance.",
        DATABASE,
        [(_of(row), row.data_bytes or None) for row in databases],
    )
    yield _gauge(
        "db_protection",
        "How well a database is protected: its most severe condition, and the level of that.",
        (*DATABASE, "state", "level"),
        [((*_of(row), str(row.measures.condition), str(row.measures.level)), 1) for row in databases],
    )
    yield _gauge(
        "db_store_read_timestamp_seconds",
        "When the store with the backups of a database was last read completely.",
        DATABASE,
        [(_of(row), row.measures.read) for row in databases],
    )


def _describe_backups(session: Session, databases: Sequence[DatabaseRow]) -> Iterator[Metric]:
    newest = [((*_of(row), kind), found) for row in databases for kind, found in sorted(row.measures.newest.items())]
    by_kind = (*DATABASE, "kind")
    yield _gauge(
        "backup_last_success_timestamp_seconds",
        "The moment that the newest backup restores whose whole chain is in the store and not damaged.",
        by_kind,
        [(key, found.point) for key, found in newest],
    )
    yield _gauge("backup_last_duration_seconds", "How long it took.", by_kind, [(key, found.seconds) for key, found in newest])
    yield _gauge(
        "backup_last_raw_bytes",
        "Its size before compression.",
        by_kind,
        [(key, found.raw_bytes or None) for key, found in newest],
    )
    yield _gauge(
        "backup_last_stored_bytes",
        "Its size in the store.",
        by_kind,
        [(key, found.stored_bytes or None) for key, found in newest],
    )
    failures = list_failures(session)
    yield _gauge(
        "backup_last_failure_timestamp_seconds",
        "When a backup failed last, by code of the error.",
        (*DATABASE, "fault"),
        [((*_of(row), failures[row.id].fault), failures[row.id].at) for row in databases if row.id in failures],
    )
    yield _gauge(
        "backups",
        "Backups by state: restorable, damaged, missing, broken (based on a damaged or missing one), running, failed.",
        (*DATABASE, "state"),
        [((*_of(row), state), count) for row in databases for state, count in sorted(row.measures.counts.items())],
    )
    yield _gauge(
        "chain_length",
        "Number of backups in the chain of the newest restorable one.",
        DATABASE,
        [(_of(row), row.measures.chain or None) for row in databases],
    )
    yield _gauge(
        "oldest_restorable_timestamp_seconds",
        "The oldest moment that can be restored.",
        DATABASE,
        [(_of(row), row.measures.oldest) for row in databases],
    )
    yield _gauge(
        "newest_verified_timestamp_seconds",
        "The newest moment that can be restored from a chain that was verified.",
        DATABASE,
        [(_of(row), row.measures.verified) for row in databases],
    )


def _describe_log_archives(session: Session, site: Site, databases: Sequence[DatabaseRow], at: datetime) -> Iterator[Metric]:
    names = {row.id: _of(row) for row in databases}
    archives = [row for row in list_log_archives(session, site, at) if row.database_id in names]
    yield _gauge(
        "log_archive_lag_seconds",
        "How much of the log could be lost now, at most.",
        DATABASE,
        [(names[row.database_id], row.lag) for row in archives],
    )
    yield _gauge(
        "log_archive_up",
        "1 if the log archive runs without trouble, otherwise 0.",
        DATABASE,
        [(names[row.database_id], float(row.is_running)) for row in archives],
    )
    yield _gauge(
        "log_archive_complete_timestamp_seconds",
        "Everything that the server wrote until then is stored.",
        DATABASE,
        [(names[row.database_id], row.complete_until) for row in archives],
    )
    yield _gauge(
        "policy_rpo_seconds",
        "How much of the log may be lost.",
        DATABASE,
        [(_of(row), row.measures.max_loss) for row in databases],
    )


def _describe_policies(session: Session, databases: Sequence[DatabaseRow], at: datetime) -> Iterator[Metric]:
    names = {row.id: _of(row) for row in databases}
    yield _gauge(
        "policy_backup_max_age_seconds",
        "How old the newest backup may be.",
        DATABASE,
        [(_of(row), row.max_age) for row in databases],
    )
    yield _gauge(
        "policy_proof_max_age_seconds",
        "How old the newest verified moment may be.",
        DATABASE,
        [(_of(row), row.measures.max_proof_age) for row in databases],
    )
    schedules = [row for row in list_schedules(session, at) if row.database_id in names]
    by_policy = (*DATABASE, "schedule")
    keys = {row.database_id: (*names[row.database_id], row.policy) for row in schedules}
    yield _gauge(
        "schedule_next_run_timestamp_seconds",
        "When the next run of a policy begins. There is none while its schedules are paused.",
        by_policy,
        [(keys[row.database_id], row.next) for row in schedules],
    )
    yield _gauge(
        "schedule_paused",
        "1 while the schedules of a policy are paused.",
        by_policy,
        [(keys[row.database_id], float(row.is_paused)) for row in schedules],
    )
    runs = {key: run for key, run in list_last_runs(session, at).items() if key in keys}
    yield _gauge(
        "schedule_last_run_timestamp_seconds",
        "When the last run ended.",
        by_policy,
        [(keys[key], run.at) for key, run in runs.items()],
    )
    yield _gauge(
        "schedule_last_run_success",
        "1 if the last run succeeded, otherwise 0.",
        by_policy,
        [(keys[key], float(run.is_success)) for key, run in runs.items()],
    )
    yield _gauge(
        "schedule_last_missed_timestamp_seconds",
        "When the last run was due that did not begin, within seven days.",
        by_policy,
        [(keys[key], last) for key, last in list_missed(session, at).items() if key in keys],
    )
    yield _gauge(
        "incident_opened_timestamp_seconds",
        "Since when an incident of a database is open.",
        (*DATABASE, "condition"),
        [((*names[row.database_id], row.condition), row.opened) for row in list_incidents(session) if row.database_id in names],
    )


def _describe_waiting_jobs(session: Session, databases: Sequence[DatabaseRow]) -> Iterator[Metric]:
    names = {row.id: _of(row) for row in databases}
    waiting, running = list_waiting(session)
    counts = [
        ((row.host, state), float(count))
        for row in waiting
        for state, count in (("queued", row.queued), ("running", row.running))
    ]
    yield _gauge(
        "jobs_unfinished", "Jobs that have not ended, by host; of the service itself without.", ("host", "state"), counts
    )
    yield _gauge(
        "jobs_oldest_queued_timestamp_seconds",
        "When the oldest queued job of a host was requested.",
        ("host",),
        [((row.host,), row.oldest) for row in waiting],
    )
    yield _gauge(
        "job_progress_ratio",
        "How much of a running job is done, from 0 to 1.",
        (*DATABASE, "operation"),
        [((*names[row.database_id], row.operation), row.ratio) for row in running if row.database_id in names],
    )


def _describe_finished_jobs(jobs: FinishedJobs) -> Iterator[Metric]:
    counts = CounterMetricFamily(
        "strongroom_jobs", "Jobs that have ended, by code of the error if they failed.", labels=("operation", "outcome", "fault")
    )
    for key, count in sorted(jobs.counts.items(), key=lambda item: (item[0].operation, item[0].outcome, item[0].fault)):
        counts.add_metric((key.operation, key.outcome, key.fault), count)
    yield counts
    durations = HistogramMetricFamily(
        "strongroom_job_duration_seconds", "How long the jobs ran that succeeded.", labels=("operation", "engine")
    )
    for (operation, engine), histogram in sorted(jobs.durations.items()):
        buckets: list[tuple[str, float]] = []
        below = 0
        for bound, count in zip((*map(str, DURATIONS), "+Inf"), histogram.counts, strict=True):
            below += count
            buckets.append((bound, below))
        durations.add_metric((operation, engine), buckets, sum_value=histogram.total)
    yield durations


def _describe_hosts(session: Session) -> Iterator[Metric]:
    hosts = list_hosts(session)
    yield _gauge(
        "agent_last_seen_timestamp_seconds",
        "When the agent of a host last answered.",
        ("host",),
        [((row.name,), row.seen) for row in hosts],
    )
    yield _gauge(
        "agent_up",
        "1 if the agent of a host answers, 0 if it has been silent for hosts.silent_after.",
        ("host",),
        [((row.name,), 0.0 if row.is_silent else 1.0) for row in hosts],
    )
    yield _gauge("agent_info", "The version of an agent.", ("host", "version"), [((row.name, row.version), 1) for row in hosts])
    yield _gauge(
        "host_free_bytes",
        "Free space where an agent keeps the data of its databases.",
        ("host",),
        [((row.name,), row.free_bytes) for row in hosts],
    )


def _of(row: DatabaseRow) -> tuple[str, str]:
    return row.project, row.name


def _gauge(name: str, text: str, labels: Sequence[str], rows: Rows) -> Metric:
    family = GaugeMetricFamily(f"strongroom_{name}", text, labels=labels)
    for key, value in rows:
        if value is not None:
            family.add_metric(key, _to_number(value))
    return family


def _to_number(value: float | datetime | timedelta) -> float:
    if isinstance(value, datetime):
        return value.timestamp()
    return value.total_seconds() if isinstance(value, timedelta) else value
