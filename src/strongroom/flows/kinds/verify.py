"""Verify a backup and its chain: read and check every byte, and with ``prepare`` restore it to a scratch directory."""

from __future__ import annotations

from sqlalchemy.orm import Session

from strongroom.catalog import Job
from strongroom.catalog.find import (
    find_backup,
)
from strongroom.errors import InvalidRequest
from strongroom.flows.backups import verification
from strongroom.flows.backups.chains import refuse_unless_restorable
from strongroom.flows.backups.sources import require_source, source_of, target_of
from strongroom.flows.hosts.placement import reader_of
from strongroom.flows.jobs import new_job
from strongroom.flows.kind import JobKind
from strongroom.flows.site import Site
from strongroom.flows.steps import backup_of, work
from strongroom.worker.spec import JobRequest, VerifyJob


def _make_request(site: Site, session: Session, job: Job) -> JobRequest:
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


def request_verify(
    site: Site,
    project: str,
    backup: str,
    *,
    prepare: bool = False,
    start: bool = True,
    chain: bool = True,
    quick: bool = False,
) -> Job:
    """Read and check a backup and, with ``chain``, all its parents. ``prepare`` also restores it to a scratch directory, and
    ``start`` starts a server there. ``quick`` only compares the sizes of all objects.

    Raises NotFound, Conflict, InvalidRequest.
    """
    if quick and prepare:
        raise InvalidRequest("a quick verification restores nothing", remedy="Omit either quick or prepare.")
    require_source(site, project, backup)
    with site.catalog.write() as session:
        row = find_backup(session, project, backup)
        refuse_unless_restorable(session, row)
        if quick and source_of(row).foreign:
            raise InvalidRequest(
                f"backup {row.name} ({row.id}) was imported; the expected sizes of its objects are not known",
                remedy="Verify it without quick.",
            )
        job = new_job(session, project, "verify", backup=row, prepare=prepare, start=start, chain=chain, quick=quick)
        job.host = reader_of(session, site, row)
    site.start(job)
    return job


VERIFY = JobKind(
    name="verify",
    operation="verify backup {backup}",
    steps=(work, verification.record),
    lane="heavy",
    order=_make_request,
    clean=verification.clean,
    shows_failure=False,
)
