"""Verify a backup and its chain: read and check the bytes, and with ``prepare`` restore it in scratch space."""

from __future__ import annotations

from sqlalchemy.orm import Session

from strongroom.catalog import Job
from strongroom.flows.backups import verification
from strongroom.flows.backups.sources import target_of
from strongroom.flows.kind import JobKind
from strongroom.flows.site import Site
from strongroom.flows.steps import backup_of, work
from strongroom.worker.spec import JobRequest, VerifyJob


def _order(site: Site, session: Session, job: Job) -> JobRequest:
    backup = backup_of(session, job)
    request = VerifyJob(
        location=target_of(session, backup),
        manifest_sha256=backup.manifest_sha256,
        datastore=backup.datastore,
        chain=bool(job.params.get("chain", True)),
        quick=bool(job.params.get("quick")),
        prepare=bool(job.params.get("prepare")),
        start=bool(job.params.get("start", True)),
        storage=site.stores.spec_holding(backup),
        artifact=site.settings.artifact,
        identities=site.stores.identities(),
    )
    return JobRequest(server=None, job=request)


VERIFY = JobKind(
    name="verify",
    operation="verify backup {backup}",
    steps=(work, verification.record),
    lane="heavy",
    order=_order,
    clean=verification.clean,
    shows_failure=False,
)
