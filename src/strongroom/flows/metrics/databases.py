"""The databases with their measures. Only those of which something changed are measured at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Instance
from strongroom.flows.retention.memory import Measured
from strongroom.flows.retention.protection import NO_LIMIT, measure_databases
from strongroom.flows.site import Site
from strongroom.protection.measures import Measures

OLD = timedelta(minutes=15)
"""Older measures are not used: the chore that takes them every few minutes seems to have stopped."""
_SLACK = timedelta(minutes=1)
"""Rows contain the time at which their transaction began, which is before their commit."""
_TOGETHER = 500
"""Databases that are asked for in one query: SQLite limits the parameters."""
_DATABASE = func.coalesce(Backup.cluster_id, Backup.instance_id)


@dataclass(frozen=True, slots=True)
class DatabaseRow:
    """An instance that is not a node, or a cluster."""

    id: str
    project: str
    name: str
    """Unique in the project: the id is added to the names of databases that have the same one."""
    datastore: str
    version: str
    host: str
    """Empty for a cluster."""
    is_cluster: bool
    data_bytes: int
    measures: Measures

    @property
    def max_age(self) -> timedelta | None:
        """How old its newest backup may be; None: there is no limit."""
        limit = self.measures.max_age
        return limit if limit is not None and limit < NO_LIMIT else None


def list_rows(session: Session, site: Site, at: datetime) -> list[DatabaseRow]:
    """All existing databases."""
    instances = select(
        Instance.id,
        Instance.project,
        Instance.name,
        Instance.datastore,
        Instance.series,
        Instance.version_number,
        Instance.host,
        Instance.data_bytes,
    ).where(Instance.deleted.is_(None), Instance.cluster_id.is_(None))
    clusters = select(Cluster.id, Cluster.project, Cluster.name, Cluster.datastore, Cluster.series).where(
        Cluster.deleted.is_(None)
    )
    found = [(row.id, row.project, row.name, row.datastore, row.series, "", "", True, 0) for row in session.execute(clusters)]
    for row in session.execute(instances):
        version = row.version_number or row.series
        found.append((row.id, row.project, row.name, row.datastore, row.series, version, row.host, False, row.data_bytes))
    measures = _find_measures(session, site, [row[0] for row in found], at)
    used = Counter((project, name) for _, project, name, *_ in found)
    return [
        DatabaseRow(
            id=key,
            project=project,
            name=name if used[project, name] == 1 else f"{name} ({key})",
            datastore=datastore,
            version=version or series,
            host=host,
            is_cluster=is_cluster,
            data_bytes=data_bytes,
            measures=measures[key],
        )
        for key, project, name, datastore, series, version, host, is_cluster, data_bytes in found
        if key in measures
    ]


def _find_measures(session: Session, site: Site, ids: list[str], at: datetime) -> dict[str, Measures]:
    """The remembered measures, and new ones of the databases whose backups have changed since."""
    known = site.watch.measured
    if known is None or not known.at <= at <= known.at + OLD:
        known = Measured(at, {})
        stale = ids
    else:
        changed = set(session.scalars(select(_DATABASE).where(Backup.updated >= known.at - _SLACK).distinct()))
        of = known.of
        stale = [key for key in ids if key in changed or key not in of]
    new: dict[str, Measures] = {}
    for start in range(0, len(stale), _TOGETHER):
        new |= measure_databases(session, site, stale[start : start + _TOGETHER])
    return known.of | new


@dataclass(frozen=True, slots=True)
class Failure:
    """The newest failed backup of a database."""

    at: datetime
    fault: str
    """Code of the error."""


def list_failures(session: Session) -> dict[str, Failure]:
    """The newest failed backup of each database, by id."""
    failed = select(_DATABASE, Backup.finished, Backup.updated, Backup.fault).where(
        Backup.status == "FAILED", Backup.deleted.is_(None)
    )
    found: dict[str, Failure] = {}
    for key, finished, updated, fault in session.execute(failed):
        at = finished or updated
        if key and (key not in found or at > found[key].at):
            found[key] = Failure(at, str((fault or {}).get("code", "JobError")))
    return found
