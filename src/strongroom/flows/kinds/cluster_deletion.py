"""Delete a cluster, or reset its status."""

from __future__ import annotations

from sqlalchemy.orm import Session

from strongroom.catalog import Cluster, Job, now
from strongroom.catalog.find import find_cluster, nodes_of
from strongroom.errors import Cancelled
from strongroom.flows import outcomes
from strongroom.flows.clusters import actions
from strongroom.flows.clusters.busy import list_unfinished
from strongroom.flows.jobs import cancel_job, new_job
from strongroom.flows.kind import Failure, JobKind
from strongroom.flows.kinds.cluster_create import settle_nodes
from strongroom.flows.records import refuse_if_protected
from strongroom.flows.site import Site
from strongroom.flows.status import move_cluster


def request_delete_cluster(site: Site, project: str, cluster: str) -> Job:
    """Stop and delete all nodes with their data, and cancel their jobs; backups are kept. Raises NotFound, Protected."""
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        refuse_if_protected([row, *nodes_of(session, row.id)])
        for job in list_unfinished(session, row):
            if job.kind == "cluster_delete":
                return job
            cancel_job(session, job)
        move_cluster(row, "DELETING")
        job = new_job(session, project, "cluster_delete", cluster=row)
    site.start(job)
    return job


def request_reset_cluster(site: Site, project: str, cluster: str) -> None:
    """End all jobs of the cluster and its nodes as cancelled, so that it can be used or deleted again. Raises NotFound."""
    with site.catalog.write() as session:
        row = find_cluster(session, project, cluster)
        for job in list_unfinished(session, row):
            job.cancel = True
            why = Cancelled(f"{job.kind} job {job.id} was cancelled: the status of cluster {row.name} ({row.id}) was reset")
            outcomes.settle(session, job, why.to_dict())
        move_cluster(row, None)


def _settle_deletion(session: Session, job: Job, failure: Failure | None) -> None:
    cluster = session.get(Cluster, job.cluster_id)
    assert cluster is not None
    if failure is None:
        cluster.deleted = now()
    else:
        settle_nodes(session, job, failure)


DELETE = JobKind(
    name="cluster_delete",
    operation="delete cluster",
    steps=(actions.delete,),
    lane="clusters",
    settle=_settle_deletion,
    has_task=True,
    failed_task="ERROR",
)
