"""Restore a backup in place, to a new instance, or to one node of a cluster."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Instance, Job
from strongroom.catalog.find import chain_of, find_backup, find_instance, find_job
from strongroom.errors import InvalidRequest, NotFound
from strongroom.flows.backups.chains import refuse_unless_restorable
from strongroom.flows.backups.sources import require_source, target_of
from strongroom.flows.hosts.placement import GB, volume_for
from strongroom.flows.jobs import new_job, refuse_if_busy, refuse_if_node
from strongroom.flows.kind import JobKind
from strongroom.flows.recovery.decision import PARAMETER, Recovery, dump_recovery, make_replay, record_recovery, take_older_base
from strongroom.flows.site import Site
from strongroom.flows.status import move_instance
from strongroom.flows.steps import backup_of, instance_of, load_instance, record_view, work
from strongroom.worker.spec import InitializeJob, JobRequest, RestoreJob


def order_restore(site: Site, session: Session, job: Job) -> JobRequest:
    """The request to restore the job's backup to its instance, or to create an empty database if there is no backup."""
    instance = instance_of(session, job)
    if job.backup_id is None:
        return JobRequest(server=instance.id, job=InitializeJob())
    backup = backup_of(session, job)
    request = RestoreJob(
        location=target_of(session, backup),
        manifest_sha256=backup.manifest_sha256,
        datastore=backup.datastore,
        storage=site.stores.spec_holding(backup),
        artifact=site.settings.artifact,
        identities=site.stores.identities(),
        volume_bytes=instance.volume_size * GB if not instance.is_adopted else None,
        in_place=job.kind == RESTORE.name or bool(job.params.get("in_place")),
        isolated=is_isolated(backup, instance),
        tablespaces=job.params.get("tablespaces") or {},
        replay=make_replay(job, site.stores.spec_holding(backup)),
    )
    return JobRequest(server=instance.id, job=request)


def is_copy(backup: Backup, instance: Instance) -> bool:
    """Whether the instance becomes a copy of another server when the backup is restored to it."""
    same_cluster = instance.cluster_id is not None and instance.cluster_id == backup.cluster_id
    return backup.instance_id != instance.id and not same_cluster


def is_isolated(backup: Backup, instance: Instance) -> bool:
    """Whether the restored server is isolated: it is a copy, or was one that was not activated.

    A backup of an isolated copy contains the replication and the events of its source.
    """
    return is_copy(backup, instance) or (instance.isolated and instance.cluster_id is None)


async def swap(site: Site, job_id: str) -> None:
    """Make the prepared directory the data directory, and start the server with it."""
    job, instance = await load_instance(site, job_id)
    view = await site.agents.client(instance.host).swap(instance.id, f"{job_id}-{job.attempts}")
    await record_view(site, view)

    def keep() -> None:
        with site.catalog.write() as session:
            row = find_job(session, None, job_id)
            row.output = {**row.output, "warnings": [*row.output.get("warnings", []), *view.restore_warnings]}

    if view.restore_warnings:
        await asyncio.to_thread(keep)


async def drop_prepared(site: Site, job_id: str) -> None:
    """Delete what a failed or cancelled restore, in place or of a node, prepared but did not swap in."""
    job, instance = await load_instance(site, job_id)
    try:
        await site.agents.client(instance.host).cancel_job(f"{job_id}-{job.attempts}")
    except NotFound:
        return  # there was no attempt


def request_restore(site: Site, project: str, instance: str, backup: str, recovery: Recovery | None = None) -> Job:
    """Restore ``backup`` in place; the previous data is kept. With ``recovery``, to a moment after the backup, its first base.

    Raises NotFound, Conflict, InvalidRequest, Busy.
    """
    require_source(site, project, backup)
    with site.catalog.write() as session:
        row = find_instance(session, project, instance)
        source = find_backup(session, project, backup)
        refuse_if_busy(session, row, "restore it")
        refuse_if_node(row, "restore")
        refuse_unless_restorable(session, source)
        require_same_version(source, row)
        if not row.is_adopted:  # the volume of an adopted server has no limit
            volume_for(source, row.volume_size)
        move_instance(row, "RESTORE")
        job = new_job(session, project, "restore", instance=row, backup=source, **describe_use(session, source, recovery))
    site.start(job)
    return job


def describe_use(session: Session, source: Backup, recovery: Recovery | None) -> dict[str, Any]:
    """The parameters of a job that restores the backup: what it may read, so that it is not removed; and to which moment."""
    if recovery is None:
        return {"chain": [link.id for link in chain_of(session, source)]}
    bases = [find_backup(session, source.project, base.backup) for base in recovery.bases]
    used = {link.id for base in bases for link in chain_of(session, base)}
    return {"chain": sorted(used), PARAMETER: dump_recovery(recovery)}


def require_same_version(source: Backup, instance: Instance) -> None:
    """Raise InvalidRequest if the backup is of another datastore or series than the instance."""
    if (source.datastore, source.series) != (instance.datastore, instance.series):
        raise InvalidRequest(
            f"backup {source.name} ({source.id}) is of {source.datastore} {source.series}; "
            f"instance {instance.name} is {instance.datastore} {instance.series}",
            remedy=f"Restore it to a new instance of {source.datastore} {source.series}.",
        )


RESTORE = JobKind(
    name="restore",
    operation="restore backup {backup}",
    steps=(work, swap),
    lane="heavy",
    clean=drop_prepared,
    order=order_restore,
    has_task=True,
    clears_fault=True,
    retry=take_older_base,
    settle=record_recovery,
)
PREPARE = JobKind(
    name="prepare",
    operation="prepare backup {backup}",
    steps=(work,),
    lane="heavy",
    clean=drop_prepared,
    order=order_restore,
)
