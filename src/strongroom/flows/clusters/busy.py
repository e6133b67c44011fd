"""Refuses operations on a cluster while it has another job or an interrupted run."""

from __future__ import annotations

from sqlalchemy.orm import Session

from strongroom.catalog import Cluster, Job
from strongroom.catalog.find import nodes_of, open_run, unfinished_jobs
from strongroom.errors import Busy, Conflict


def refuse_if_cut_off(session: Session, cluster: Cluster, *, unless_waiting: bool = False) -> None:
    """Raise Conflict if a creation or a restore of the cluster was interrupted.

    With ``unless_waiting``, a prepared restore that waits for a user is no reason: it has not changed the cluster yet.
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
            f"a restore of cluster {cluster.name} ({cluster.id}) is prepared and waits for you to start the outage",
            remedy=f"Start it: `strongroom cluster restore {cluster.name} --resume`; or abandon it: "
            f"`strongroom cluster recover {cluster.name}`.",
        )
    raise Conflict(
        f"a restore of cluster {cluster.name} ({cluster.id}) was interrupted in phase {run.phase}",
        remedy=f"Resume it first: `strongroom cluster restore {cluster.name} --resume`.",
    )


def list_unfinished(session: Session, cluster: Cluster) -> list[Job]:
    """The queued and running jobs of the cluster and of its nodes."""
    jobs = unfinished_jobs(session, cluster_id=cluster.id)
    known = {job.id for job in jobs}
    for node in nodes_of(session, cluster.id):
        jobs += [job for job in unfinished_jobs(session, instance_id=node.id) if job.id not in known]
    return jobs


def refuse_if_working(session: Session, cluster: Cluster, operation: str) -> None:
    """Raise Busy if a job is queued or running on the cluster or one of its nodes. ``operation`` is what is refused."""
    for job in list_unfinished(session, cluster):
        raise Busy(
            f"cluster {cluster.name} ({cluster.id}) is busy: {job.kind} job {job.id} is {job.status}; cannot {operation} now",
            remedy=f"Wait for it (`strongroom job follow {job.id}`) or cancel it (`strongroom job cancel {job.id}`).",
        )
