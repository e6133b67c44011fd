"""Changes rows of the catalog when a job starts or ends. Plain functions of a session, whose caller commits."""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy.orm import Session

from strongroom.artifact import Manifest
from strongroom.catalog import Backup, Cluster, Instance, Job, now
from strongroom.flows.backups.removals import record_removal
from strongroom.flows.kind import Failure, JobKind, kind_of
from strongroom.flows.status import move_backup, move_cluster, move_instance, move_job

log = structlog.get_logger()


def begin(session: Session, job: Job) -> None:
    """Record that the job has started."""
    if act := kind_of(job.kind).begin:
        act(session, job)


def settle(session: Session, job: Job, failure: Failure | None) -> None:
    """Record that the job has ended. Idempotent: only the first call has an effect."""
    if job.finished is not None:
        return
    kind = kind_of(job.kind)
    job.finished = now()
    job.fault = dict(failure) if failure else None
    if failure is None:
        move_job(job, "succeeded")
    elif failure["code"] == "Cancelled":
        move_job(job, "cancelled")
    else:
        move_job(job, "failed")
    job.phase = "done" if failure is None else job.phase
    job.message = failure["message"] if failure else None
    instance = session.get(Instance, job.instance_id) if job.instance_id else None
    cluster = session.get(Cluster, job.cluster_id) if job.cluster_id else None
    if instance is not None:
        _settle_target(kind, job, instance, failure, has_task=kind.has_task, clears_fault=kind.clears_fault)
    if cluster is not None:
        _settle_target(kind, job, cluster, failure, has_task=kind.has_task and instance is None, clears_fault=True)
    if kind.settle is not None:
        kind.settle(session, job, failure)
    _log_end(job, session.get(Backup, job.backup_id) if job.backup_id else None, failure)


def _log_end(job: Job, backup: Backup | None, failure: Failure | None) -> None:
    """Log one line for every job, with names and the user who requested it."""
    line: dict[str, object] = {"job": job.id, "kind": job.kind, "project": job.project}
    instance = job.instance_name or (backup.instance_name if backup is not None else "")
    line |= {"instance": instance} if instance else {}
    line |= {"backup": backup.name} if backup is not None else {}
    line |= {"host": job.host} if job.host else {}
    line["asked_by"] = job.asked_by or "strongroom"
    if job.started and job.finished:
        line["seconds"] = round((job.finished - job.started).total_seconds(), 1)
    if failure is None:
        log.info("job succeeded", **line)
    elif job.status == "cancelled":
        log.info("job cancelled", **line, reason=failure["message"])
    else:
        log.warning("job failed", **line, error=failure["code"], reason=failure["message"], remedy=failure.get("remedy", ""))


def _settle_target(
    kind: JobKind, job: Job, target: Instance | Cluster, failure: Failure | None, *, has_task: bool, clears_fault: bool
) -> None:
    if has_task:
        task = kind.failed_task if failure else None
        if isinstance(target, Instance):
            move_instance(target, task)
        else:
            move_cluster(target, task)
    if failure is not None and kind.shows_failure:
        operation = kind.operation.format(backup=job.backup_id)
        set_fault(target, f"Failed to {operation}, error: {failure['message']}", failure.get("remedy", ""))
    elif failure is None and clears_fault:
        target.fault = None
    target.updated = now()


def fail_backup(backup: Backup, failure: Failure) -> bool:
    """Mark a backup as failed. False if it is complete or being deleted; then it is not changed."""
    if backup.status not in (*Backup.RUNNING, "FAILED"):
        return False
    move_backup(backup, "FAILED")
    backup.fault = dict(failure)
    backup.finished = now()
    return True


def settle_deletion(session: Session, backup: Backup, failure: Failure | None, asked_by: str) -> None:
    """The objects of a backup are gone, which is recorded, or they could not be removed."""
    if failure is None:
        record_removal(session, backup, asked_by)
        backup.deleted = now()
        move_backup(backup, "DELETED")
    else:
        move_backup(backup, "DELETE_FAILED")
        backup.fault = dict(failure)
    backup.updated = now()


def complete_backup(backup: Backup, manifest: Manifest, sha256: str, location: str, reason: str | None) -> None:
    """Copy the manifest in the store into the row: the store is authoritative."""
    backup.kind = manifest.kind
    backup.parent_id = manifest.parent.location.id if manifest.parent else None
    backup.chain_id = manifest.chain
    backup.server_version = manifest.server_version
    backup.codec = manifest.codec.name
    backup.encrypted = manifest.recipients is not None
    backup.location = location
    backup.lineage = manifest.lineage
    backup.positions = manifest.positions.model_dump(mode="json", exclude_none=True)
    backup.pages = manifest.pages.model_dump(mode="json") if manifest.pages else None
    backup.manifest_sha256 = sha256
    backup.profile = manifest.profile.model_dump(mode="json", exclude_defaults=True) if manifest.profile else None
    backup.witness = manifest.witness.model_dump(mode="json") if manifest.witness else None
    backup.data_size = manifest.data_size
    backup.raw_size = manifest.raw_size
    backup.stored_size = manifest.stored_size
    backup.reason = reason
    backup.started = manifest.started
    backup.finished = manifest.finished
    move_backup(backup, "COMPLETED")
    backup.fault = None
    backup.updated = now()


def set_fault(target: Instance | Cluster, message: str, details: str) -> None:
    """Record the fault that users see on the instance or the cluster."""
    target.fault = {"message": message, "details": details, "created": now().isoformat()}


def mark_missing(instance: Instance) -> bool:
    """Mark an idle instance whose host does not know its server: another host has its name, or its agent lost its state.

    True when that changes the row.
    """
    if instance.task is not None or instance.state in ("new", "failed"):
        return False
    instance.state, instance.healthy = "failed", False
    instance.detail = f"host {instance.host} does not know this server; its agent's data directory may have been lost"
    return True


def mirror(instance: Instance, view: dict[str, Any]) -> bool:
    """Copy the agent's view of the server (a dumped ServerView) into the row. True when something changed."""
    changed = False
    for column, key in (
        ("state", "state"),
        ("healthy", "healthy"),
        ("detail", "detail"),
        ("address", "address"),
        ("port", "port"),
        ("socket", "socket"),
        ("lineage", "lineage"),
        ("data_bytes", "data_bytes"),
        ("wal_bytes", "wal_bytes"),
        ("galera", "galera"),
        ("old_data", "old_data"),
        ("isolated", "isolated"),
        ("version_number", "version_number"),
        ("series", "series"),
    ):
        value = view.get(key)
        if column in ("address", "port", "socket", "lineage", "wal_bytes") and value is None:
            continue
        if getattr(instance, column) != value:
            setattr(instance, column, value)
            changed = True
    return changed
