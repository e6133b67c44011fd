"""Take a backup: the worker writes the artifact, then the catalog records what its manifest says."""

from __future__ import annotations

from contextlib import suppress

from pydantic import ValidationError
from sqlalchemy.orm import Session

from strongroom.artifact import Pages, Witness
from strongroom.catalog import Backup, Job, now
from strongroom.errors import DatabaseDamaged
from strongroom.flows.backups import artifact_end
from strongroom.flows.backups.sources import location_of
from strongroom.flows.kind import Failure, JobKind
from strongroom.flows.outcomes import fail_backup
from strongroom.flows.site import Site
from strongroom.flows.steps import backup_of, start_building, work
from strongroom.worker.spec import BackupJob, JobRequest


def _order(site: Site, session: Session, job: Job) -> JobRequest:
    backup = backup_of(session, job)
    parent = session.get(Backup, backup.parent_id) if backup.parent_id else None
    artifact = site.settings.artifact
    request = BackupJob(
        location=location_of(backup),
        backup_kind="incremental" if parent else "full",
        name=backup.name,
        description=backup.description,
        project=backup.project,
        instance_id=backup.instance_id or "",
        instance_name=backup.instance_name,
        datastore_version=backup.series,
        parent=location_of(parent) if parent else None,
        parent_sha256=parent.manifest_sha256 if parent else None,
        parent_witness=Witness.model_validate(parent.witness) if parent and parent.witness else None,
        fall_back_to_full=bool(job.params.get("fall_back_to_full")),
        desync=bool(job.params.get("desync")),
        damaged_pages="fail" if job.params.get("damaged_pages") == "fail" else "warn",
        storage=site.stores.spec_holding(backup),
        artifact=artifact.model_copy(
            update={"codec": backup.codec} | ({"level": None} if backup.codec != artifact.codec else {})
        ),
        recipients=site.settings.encryption.recipients,
        owner=site.catalog.service_id,
    )
    return JobRequest(server=job.instance_id, job=request)


def _settle(session: Session, job: Job, failure: Failure | None) -> None:
    backup = backup_of(session, job)
    if failure is None or not fail_backup(backup, failure):
        return
    if failure["code"] == DatabaseDamaged.__name__:
        with suppress(ValidationError):
            backup.pages = Pages.model_validate(job.output.get("pages")).model_dump(mode="json")
    backup.updated = now()


BACKUP = JobKind(
    name="backup",
    operation="create backup {backup}",
    steps=(work, artifact_end.record),
    lane="heavy",
    clean=artifact_end.clean,
    order=_order,
    begin=start_building,
    settle=_settle,
    clears_fault=True,
    outlives_cancel=True,
)
