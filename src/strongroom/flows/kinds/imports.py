"""Bring backups into the catalog: those that other programs wrote, and our own after the catalog was lost."""

from __future__ import annotations

from sqlalchemy.orm import Session

from strongroom.artifact import ForeignChain
from strongroom.catalog import Job, now
from strongroom.flows.backups.sources import source_of
from strongroom.flows.kind import Failure, JobKind
from strongroom.flows.kinds.foreign import record_import
from strongroom.flows.kinds.rebuild import rebuild
from strongroom.flows.outcomes import fail_backup
from strongroom.flows.site import Site
from strongroom.flows.steps import backup_of, start_building, work
from strongroom.worker.spec import ImportJob, JobRequest


def _order(site: Site, session: Session, job: Job) -> JobRequest:
    backup = backup_of(session, job)
    request = ImportJob(
        location=ForeignChain(backups=source_of(backup).foreign),
        datastore=backup.datastore,
        storage=site.stores.spec_holding(backup),
    )
    return JobRequest(server=None, job=request)


def _settle(session: Session, job: Job, failure: Failure | None) -> None:
    backup = backup_of(session, job)
    if failure is not None and fail_backup(backup, failure):
        backup.updated = now()


IMPORT = JobKind(
    name="import",
    operation="import backup {backup}",
    steps=(work, record_import),
    lane="heavy",
    order=_order,
    begin=start_building,
    settle=_settle,
)
REBUILD = JobKind(name="rebuild", operation="rebuild the catalog", steps=(rebuild,), lane="stores")
