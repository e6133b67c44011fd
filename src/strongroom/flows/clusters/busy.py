"""What refuses an operation on a cluster: another job, or a run that was cut off."""

from __future__ import annotations

from sqlalchemy.orm import Session

from strongroom.catalog import Cluster, Job
from strongroom.catalog.find import nodes_of, open_run, unfinished_jobs
from strongroom.errors import Busy, Conflict


def refuse_if_cut_off(session: Session, cluster: Cluster, *, unless_waiting: bool = False) -> None:
    """Raise Conflict when a creation or a restore of the cluster has not come to its end.

    ``unless_waiting`` allows what a restore that waits for its outage does not mind: it has stopped and changed nothing yet.
    """
    run = open_run(session, cluster.id)
    if run is None or (unless_waiting and run.facts.get("waits")):
        return
    job = session.get(Job, run.id)
    if run.backup_id is None and job is not None and job.kind == "cluster_create":
        raise Conflict(
            f"the creation of cluster {cluster.name} ({cluster.id}) failed in phase {run.phase}",
            remedy=f"Delete it, then create it again: `strongroom cluster delete {cluster.name}`.",
        )
    if run.facts.get("waits"):
        raise Conflict(
            f"a restore of cluster {cluster.name} ({cluster.id}) is prepared and waits for its outage to begin",
            remedy=f"Begin it: `strongroom cluster restore {cluster.name} --resume`; or give it up: "
            f"`strongroom cluster recover {cluster.name}`.",
        )
    raise Conflict(
        f"a restore of cluster {cluster.name} ({cluster.id}) was cut off in phase {run.phase}",
        remedy=f"Go on with it first: `strongroom cluster restore {cluster.name} --resume`.",
    )


def list_unfinished(session: Session, cluster: Cluster) -> list[Job]:
    jobs = unfinished_jobs(session, cluster_id=cluster.id)
    known = {job.id for job in jobs}
    for node in nodes_of(session, cluster.id):
        jobs += [job for job in unfinished_jobs(session, instance_id=node.id) if job.id not in known]
    return jobs


def refuse_if_working(session: Session, cluster: Cluster, wish: str) -> None:
    """Raise Busy when a job is queued or running on the cluster or one of its nodes: one at a time."""
    for job in list_unfinished(session, cluster):
        raise Busy(
            f"cluster {cluster.name} ({cluster.id}) is busy: {job.kind} job {job.id} is {job.status}; cannot {wish} now",
            remedy=f"Wait for it (`strongroom job follow {job.id}`) or cancel it (`strongroom job cancel {job.id}`).",
        )
