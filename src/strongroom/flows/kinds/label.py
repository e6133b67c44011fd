"""Rename a backup, or change its protection: at once in the catalog, and by a job in the store."""

from __future__ import annotations

import asyncio

from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Job
from strongroom.catalog.find import ancestors_of, find_backup, find_job
from strongroom.flows.backups.labels import store_label
from strongroom.flows.jobs import new_job
from strongroom.flows.kind import JobKind
from strongroom.flows.records import change_record
from strongroom.flows.retention.marks import unmark
from strongroom.flows.site import Site


async def store_labels(site: Site, job_id: str) -> None:
    """Store what the catalog says now: a later change may have come first."""

    def work() -> None:
        with site.catalog.read() as session:
            row = session.get(Backup, find_job(session, None, job_id).params["backup"])
        if row is not None and _has_artifact(row):
            store_label(site.stores.holding(row), row)

    await asyncio.to_thread(work)


def change_backup(site: Site, project: str, backup: str, *, name: str | None, protected: bool | None) -> Backup:
    """Rename a backup, or change its protection. Who protects a deleted or expired backup takes that back.

    Raises NotFound, Conflict, Busy.
    """
    job: Job | None = None
    with site.catalog.write() as session:
        row = find_backup(session, project, backup)
        before = (row.name, row.protected)
        change_record(row, name=name, protected=protected)
        if protected:
            unmark(session, [row, *ancestors_of(session, row)])
        if before != (row.name, row.protected) and _has_artifact(row):
            job = _new_label_job(session, row)
    if job is not None:
        site.start(job)
    return row


def _new_label_job(session: Session, row: Backup) -> Job:
    """The job names its backup only among its parameters, so that it keeps nobody from deleting it."""
    job = new_job(session, row.project, "label_backup", partition=f"label {row.id}")
    job.params = {**job.params, "backup": row.id}
    return job


def _has_artifact(row: Backup) -> bool:
    return row.source is None and row.deleted is None and row.status == "COMPLETED"


LABEL = JobKind(
    name="label_backup", operation="store the name and the protection of a backup", steps=(store_labels,), lane="stores"
)
