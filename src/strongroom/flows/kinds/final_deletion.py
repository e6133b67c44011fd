"""Delete an instance or a cluster after a final backup. Nothing is deleted unless that backup is complete.

Both jobs are added in one transaction. The deletion waits for the backup, which it then finds in the catalog.
"""

from __future__ import annotations

import asyncio

from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Instance, Job, now
from strongroom.catalog.find import find_cluster, find_instance, find_job, nodes_of
from strongroom.errors import Cancelled, JobError
from strongroom.flows.backups.options import BackupOptions
from strongroom.flows.clusters import actions
from strongroom.flows.clusters.backup import add_cluster_backup, is_synced
from strongroom.flows.hosts.fresh import refresh_instance, refresh_nodes
from strongroom.flows.jobs import new_job, refuse_if_node, wait_job
from strongroom.flows.kind import Failure, JobKind
from strongroom.flows.kinds.backup import add_backup
from strongroom.flows.kinds.cluster_create import settle_nodes
from strongroom.flows.kinds.lifecycle import delete_server
from strongroom.flows.records import refuse_if_protected
from strongroom.flows.site import Site
from strongroom.flows.status import move_cluster, move_instance

LOOK = 5.0
"""Seconds between two looks at the own job, which may have been cancelled."""


def request_final_deletion(site: Site, project: str, instance: str) -> Job:
    """Take a full backup of the instance, then delete it. Returns the job of the deletion.

    Raises NotFound, Protected, and as the request for a backup.
    """
    refresh_instance(site, project, instance)
    with site.catalog.write() as session:
        row = find_instance(session, project, instance)
        refuse_if_node(row, "delete")
        refuse_if_protected([row])
        backup, first = add_backup(session, site, row, _choose_options(row))
        job = new_job(session, project, DELETE.name, instance=row, backup=backup, after=first.id)
    site.start(first)
    site.start(job)
    return job


def request_final_cluster_deletion(site: Site, project: str, cluster: str) -> Job:
    """The same for a cluster. Raises NotFound, Protected, and as the request for a backup of a cluster."""
    refresh_nodes(site, project, cluster, unless=is_synced)
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        refuse_if_protected([row, *nodes_of(session, row.id)])
        backup, first = add_cluster_backup(session, site, row, _choose_options(row))
        job = new_job(session, project, DELETE_CLUSTER.name, cluster=row, backup=backup, after=first.id)
    site.start(first)
    site.start(job)
    return job


async def await_backup(site: Site, job_id: str) -> None:
    """Wait until the job of the backup has ended, then begin the deletion. Raises JobError if the backup is not complete."""
    while not await asyncio.to_thread(_begin, site, job_id):
        with site.catalog.read() as session:
            first = find_job(session, None, job_id).params["after"]
        await wait_job(site, None, first, after=1 << 40, seconds=LOOK)


def _begin(site: Site, job_id: str) -> bool:
    """Decided in one transaction: who protects the instance or deletes the backup before, wins. False: the backup runs."""
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        if job.cancel:
            raise Cancelled(f"{job.kind} job {job.id} was cancelled; nothing was deleted")
        first, backup = session.get(Job, job.params["after"]), session.get(Backup, job.backup_id)
        if first is not None and first.finished is None:
            return False
        if backup is None or backup.status != "COMPLETED" or backup.trashed or first is None or first.cancel:
            why = (first.message if first is not None else None) or "it was cancelled or deleted"
            noun = "cluster" if job.cluster_id else "instance"
            raise JobError(
                f"{noun} {job.instance_name} was not deleted: its final backup {job.backup_id} is not complete: {why}",
                remedy="Remove the cause and repeat the deletion, or delete it without --final-backup.",
            )
        if job.cluster_id is not None:
            cluster = session.get_one(Cluster, job.cluster_id)
            refuse_if_protected([cluster, *nodes_of(session, cluster.id)])
            move_cluster(cluster, "DELETING")
        else:
            instance = session.get_one(Instance, job.instance_id)
            refuse_if_protected([instance])
            move_instance(instance, "SHUTDOWN")
    return True


def _settle(session: Session, job: Job, failure: Failure | None) -> None:
    """An instance whose deletion has not begun is left as it was."""
    instance = session.get_one(Instance, job.instance_id)
    if failure is None:
        instance.deleted = now()
    elif instance.task == "SHUTDOWN":
        move_instance(instance, "ERROR")


def _settle_cluster(session: Session, job: Job, failure: Failure | None) -> None:
    cluster = session.get_one(Cluster, job.cluster_id)
    if failure is None:
        move_cluster(cluster, None)
        cluster.deleted = now()
    elif cluster.task == "DELETING":
        move_cluster(cluster, "ERROR")
        settle_nodes(session, job, failure)


def _choose_options(row: Instance | Cluster) -> BackupOptions:
    name = f"final-{row.name}-{now():%Y%m%dT%H%M%SZ}"[-255:]
    return BackupOptions(name=name, description="final backup, before the deletion")


DELETE = JobKind(
    name="final_delete_instance", operation="delete instance after a backup", steps=(await_backup, delete_server), settle=_settle
)
DELETE_CLUSTER = JobKind(
    name="final_delete_cluster",
    operation="delete cluster after a backup",
    steps=(await_backup, actions.delete),
    lane="clusters",
    settle=_settle_cluster,
)
KINDS = (DELETE, DELETE_CLUSTER)
