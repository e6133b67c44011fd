"""Take a backup: the request, and the job whose worker writes the artifact; the catalog then records its manifest."""

from __future__ import annotations

import uuid
from contextlib import suppress

from pydantic import ValidationError
from sqlalchemy.orm import Session

from strongroom import datastores
from strongroom.artifact import Pages, Witness
from strongroom.catalog import Backup, Expiration, Instance, Job, now, quotas
from strongroom.catalog.find import (
    chain_of,
    container_for,
    find_backup,
    find_instance,
)
from strongroom.errors import Busy, Conflict, DatabaseDamaged, InvalidRequest, LineageChanged, Unsupported
from strongroom.flows.backups import artifact_end
from strongroom.flows.backups.chains import describe_damage, newest_parent
from strongroom.flows.backups.options import BackupOptions
from strongroom.flows.backups.sources import location_of
from strongroom.flows.hosts.fresh import refresh_instance
from strongroom.flows.jobs import new_job, refuse_if_busy, refuse_if_node
from strongroom.flows.kind import Failure, JobKind
from strongroom.flows.outcomes import fail_backup
from strongroom.flows.policies.ends import settle_backup
from strongroom.flows.site import Site
from strongroom.flows.steps import backup_of, start_building, work
from strongroom.worker.spec import BackupJob, JobRequest


def _make_request(site: Site, session: Session, job: Job) -> JobRequest:
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
        container_exists=site.settings.storage.driver == "directory"  # only file systems have to be mounted
        and site.stores.has_backups(session, backup.project, backup.container),
    )
    return JobRequest(server=job.instance_id, job=request)


def _settle(session: Session, job: Job, failure: Failure | None) -> None:
    backup = backup_of(session, job)
    is_failed = failure is not None and fail_backup(backup, failure)
    settle_backup(session, job, backup, failure)
    if failure is None or not is_failed:
        return
    if failure["code"] == DatabaseDamaged.__name__:
        with suppress(ValidationError):
            backup.pages = Pages.model_validate(job.output.get("pages")).model_dump(mode="json")
    backup.updated = now()


def request_backup(
    site: Site,
    project: str,
    instance: str,
    options: BackupOptions,
) -> tuple[Backup, Job]:
    """Take a backup. With ``parent``, it is an incremental based on that backup; with ``incremental`` alone, it is based on the
    newest usable backup, or is a full if there is none.

    Raises NotFound, InvalidRequest, Conflict, LineageChanged, Busy, QuotaExceeded, Unsupported.
    """
    options.check()
    refresh_instance(site, project, instance)
    with site.catalog.write() as session:
        row = find_instance(session, project, instance)
        backup, job = add_backup(session, site, row, options)
    site.start(job)
    return backup, job


def add_backup(session: Session, site: Site, row: Instance, options: BackupOptions) -> tuple[Backup, Job]:
    """Add a backup of the instance and its job, in the transaction of the caller, who starts the job. Raises as the request."""
    refuse_backup(session, site, row)
    reason = None
    base: Backup | None = None
    chains = datastores.get(row.datastore).capabilities.incremental
    if options.parent is not None and not chains:
        raise Unsupported(
            f"incremental backups of {row.datastore} are not supported", remedy="Omit the parent to take a full backup."
        )
    if options.parent is not None:
        base = _named_parent(session, row.project, row, options.parent)
    elif options.incremental and not chains:
        reason = f"a full was taken: incremental backups of {row.datastore} are not supported"
    elif options.incremental:
        base, reason = newest_parent(session, row, options.limit)
    backup = new_backup(session, site, row, base, options, reason)
    job = new_job(
        session,
        row.project,
        "backup",
        instance=row,
        backup=backup,
        scheduled=options.scheduled,
        fall_back_to_full=options.parent is None,
        damaged_pages=options.damaged_pages,
    )
    return backup, job


def refuse_backup(session: Session, site: Site, row: Instance) -> None:
    """Raise Unsupported, Busy or QuotaExceeded if no backup of the instance can be taken now."""
    refuse_if_busy(session, row, "take a backup")
    refuse_if_node(row, "backup")
    if row.task is not None:
        raise Busy(f"instance {row.name} ({row.id}) is in {row.task}; cannot take a backup now")
    if row.state != "running":
        raise Busy(
            f"instance {row.name} ({row.id}) is {row.state}; a backup needs a running server",
            remedy=f"Start it (`strongroom instance start {row.name}`). {row.detail}".strip(),
        )
    quotas.require(session, row.project, site.settings, {"backups": 1})


def new_backup(
    session: Session, site: Site, instance: Instance, base: Backup | None, options: BackupOptions, reason: str | None
) -> Backup:
    """Add a requested backup of the instance: an incremental based on ``base``, or a full for this reason."""
    key = str(uuid.uuid4())
    backup = Backup(
        id=key,
        project=instance.project,
        name=options.name,
        description=options.description,
        cluster_id=instance.cluster_id,
        instance_id=instance.id,
        instance_name=instance.name,
        container=container_for(session, instance.project, instance.id, options.container, site.settings.storage.container),
        kind="incremental" if base else "full",
        parent_id=base.id if base else None,
        chain_id=base.chain_id if base else key,
        datastore=instance.datastore,
        series=instance.series,
        codec=options.codec or site.settings.artifact.codec,
        encrypted=bool(site.settings.encryption.recipients),
        lineage=instance.lineage,
        reason=reason,
    )
    session.add(backup)
    return backup


def _named_parent(session: Session, project: str, instance: Instance, ref: str) -> Backup:
    base = find_backup(session, project, ref)
    full = "Take a full backup instead, or name another parent."
    if base.instance_id != instance.id:
        raise InvalidRequest(
            f"parent backup {base.name} ({base.id}) was taken of instance {base.instance_id}, "
            f"not of {instance.name} ({instance.id})",
            remedy=full,
        )
    if base.status != "COMPLETED":
        raise Conflict(f"parent backup {base.name} ({base.id}) is {base.status}, not COMPLETED", remedy=full)
    if session.get(Expiration, base.id) is not None:
        raise Conflict(
            f"parent backup {base.name} ({base.id}) is deleted or expired",
            remedy=f"{full} Or keep it first: `strongroom backup undelete` or `strongroom backup hold`.",
        )
    for link in chain_of(session, base):
        if link.status != "COMPLETED":
            raise Conflict(f"the chain of {base.name} is broken: backup {link.id} is {link.status}", remedy=full)
        if link.is_damaged:
            raise Conflict(f"{describe_damage(link)}; an incremental based on it could not be restored", remedy=full)
    if instance.lineage is not None and base.lineage is not None and base.lineage != instance.lineage:
        raise LineageChanged(
            f"the data of instance {instance.name} was replaced (a restore, or a state transfer) after backup {base.name} "
            f"({base.id}) was taken; an incremental based on it would lose rows",
            remedy=full,
        )
    return base


BACKUP = JobKind(
    name="backup",
    operation="create backup {backup}",
    steps=(work, artifact_end.record),
    lane="heavy",
    clean=artifact_end.clean,
    order=_make_request,
    begin=start_building,
    settle=_settle,
    clears_fault=True,
    outlives_cancel=True,
)
