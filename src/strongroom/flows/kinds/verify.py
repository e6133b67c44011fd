"""Verify a backup: read and check its bytes, and with ``prepare`` restore it in scratch space."""

from __future__ import annotations

from sqlalchemy.orm import Session

from strongroom.catalog import Job, now
from strongroom.flows._control import Control
from strongroom.flows._kind import Failure, JobKind
from strongroom.flows._orders import identities, storage_spec
from strongroom.flows._source import target_of
from strongroom.flows._steps import backup_of, work
from strongroom.worker.spec import JobRequest, VerifyJob

PROVES_DAMAGE = {"ArtifactError", "ArtifactMissing", "ArtifactCorrupt", "ManifestInvalid", "ToolFailed", "ServerFailed"}
"""Errors of a verification that say that the backup is bad. All others (the store or the host does not answer, no space, no key,
a program that was ended, a cancelled job) say nothing about it: what was known of it stays."""


def _order(control: Control, session: Session, job: Job) -> JobRequest:
    backup = backup_of(session, job)
    request = VerifyJob(
        location=target_of(session, backup),
        manifest_sha256=backup.manifest_sha256,
        datastore=backup.datastore,
        prepare=bool(job.params.get("prepare")),
        start=bool(job.params.get("start", True)),
        storage=storage_spec(control, backup.project),
        artifact=control.settings.artifact,
        identities=identities(control),
    )
    return JobRequest(server=None, job=request)


def _settle(session: Session, job: Job, failure: Failure | None) -> None:
    if failure is not None and failure["code"] not in PROVES_DAMAGE:
        return
    backup = backup_of(session, job)
    backup.verified = {
        "at": now().isoformat(),
        "ok": failure is None,
        "prepared": bool(job.params.get("prepare")),
        "tables": (job.output.get("prepared") or {}).get("tables"),
        "message": failure["message"] if failure else "; ".join(job.output.get("warnings", [])) or None,
    }
    backup.updated = now()


VERIFY = JobKind(
    name="verify",
    operation="verify backup {backup}",
    steps=(work,),
    lane="heavy",
    order=_order,
    settle=_settle,
    is_told=False,
)
