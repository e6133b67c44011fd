"""Verify a backup and its chain: read and check the bytes, and with ``prepare`` restore it in scratch space."""

from __future__ import annotations

from sqlalchemy.orm import Session

from strongroom.catalog import Job
from strongroom.flows import _verification
from strongroom.flows._control import Control
from strongroom.flows._kind import JobKind
from strongroom.flows._orders import identities, storage_spec
from strongroom.flows._source import target_of
from strongroom.flows._steps import backup_of, work
from strongroom.worker.spec import JobRequest, VerifyJob


def _order(control: Control, session: Session, job: Job) -> JobRequest:
    backup = backup_of(session, job)
    request = VerifyJob(
        location=target_of(session, backup),
        manifest_sha256=backup.manifest_sha256,
        datastore=backup.datastore,
        chain=bool(job.params.get("chain", True)),
        quick=bool(job.params.get("quick")),
        prepare=bool(job.params.get("prepare")),
        start=bool(job.params.get("start", True)),
        storage=storage_spec(control, backup.project),
        artifact=control.settings.artifact,
        identities=identities(control),
    )
    return JobRequest(server=None, job=request)


VERIFY = JobKind(
    name="verify",
    operation="verify backup {backup}",
    steps=(work, _verification.record),
    lane="heavy",
    order=_order,
    clean=_verification.clean,
    shows_failure=False,
)
