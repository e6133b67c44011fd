"""Rename, protect, hold and release backups: at once in the catalog, and by a job in the store."""

from __future__ import annotations

import asyncio
from datetime import datetime

from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Hold, Job, now
from strongroom.catalog.find import ancestors_of, find_backup, find_job
from strongroom.errors import Busy, Conflict, InvalidRequest
from strongroom.flows.backups.labels import store_label
from strongroom.flows.jobs import new_job
from strongroom.flows.kind import JobKind
from strongroom.flows.records import change_record
from strongroom.flows.retention.marks import unmark
from strongroom.flows.site import Site
from strongroom.identity import asker


async def store_labels(site: Site, job_id: str) -> None:
    """Store what the catalog contains now: a later change may have been made meanwhile."""

    def work() -> None:
        with site.catalog.read() as session:
            row = session.get(Backup, find_job(session, None, job_id).params["backup"])
            hold = session.get(Hold, row.id) if row is not None else None
        if row is not None and _has_artifact(row):
            store_label(site.stores.holding(row), row, hold)

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


def hold_backup(site: Site, project: str, backup: str, *, reason: str, until: datetime | None = None) -> Hold:
    """Keep the backup, and all that it is based on, until the time or until it is released. A second hold replaces the first.

    Removes the mark of an expired or deleted backup. Decided in one transaction: if a sweep has begun, the hold is refused.
    Raises NotFound, InvalidRequest, Busy, Conflict.
    """
    if not reason.strip():
        raise InvalidRequest("a hold needs a reason", remedy="Say why the backup is kept, for example --reason 'audit 2026'.")
    if until is not None and until <= now():
        raise InvalidRequest(f"{until:%Y-%m-%d %H:%M} UTC has passed", remedy="Choose a later end, or none.")
    job: Job | None = None
    with site.catalog.write() as session:
        row = find_backup(session, project, backup)
        chain = [row, *ancestors_of(session, row)]
        for link in chain:
            if link.status in ("DELETING", "DELETE_FAILED"):
                raise Busy(f"backup {link.name} ({link.id}) is being deleted; it is too late to hold it")
        if row.status == "FAILED":
            raise Conflict(
                f"backup {row.name} ({row.id}) failed; there is nothing to keep", remedy="Hold a backup that can be restored."
            )
        unmark(session, chain)
        row.updated = now()
        hold = session.merge(Hold(backup_id=row.id, reason=reason.strip(), until=until, held_by=asker.get()[:255], created=now()))
        if _has_artifact(row):
            job = _new_label_job(session, row)
    if job is not None:
        site.start(job)
    return hold


def release_backup(site: Site, project: str, backup: str) -> None:
    """End the hold of a backup. Raises NotFound."""
    job: Job | None = None
    with site.catalog.write() as session:
        row = find_backup(session, project, backup)
        hold = session.get(Hold, row.id)
        if hold is not None:
            session.delete(hold)
            row.updated = now()
            if _has_artifact(row):
                job = _new_label_job(session, row)
    if job is not None:
        site.start(job)


def _new_label_job(session: Session, row: Backup) -> Job:
    """The job names its backup only among its parameters, so that it keeps nobody from deleting it."""
    job = new_job(session, row.project, "label_backup", partition=f"label {row.id}")
    job.params = {**job.params, "backup": row.id}
    return job


def _has_artifact(row: Backup) -> bool:
    return row.source is None and row.deleted is None and row.status == "COMPLETED"


LABEL = JobKind(
    name="label_backup", operation="store the name, protection and hold of a backup", steps=(store_labels,), lane="stores"
)
