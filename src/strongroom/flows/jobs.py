"""Requests for jobs: add them in the transaction of a request, wait for them, cancel them."""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Instance, Job
from strongroom.catalog.find import find_job, unfinished_jobs
from strongroom.errors import Busy, Cancelled, Unsupported
from strongroom.flows import outcomes
from strongroom.flows.kind import kind_of
from strongroom.flows.site import Site
from strongroom.identity import asker

NOTICE = 0.05
"""Minimum number of seconds between two reads of a job that a client waits for."""


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The run of a policy for which a job is added."""

    run: str
    """Id of the run."""
    job: str
    """Id of the job: follows from run and attempt, so that the job exists only once."""
    policy: str
    """Name of the policy: it requests the job, unless a user runs the policy."""


def new_job(
    session: Session,
    project: str,
    kind: str,
    *,
    instance: Instance | None = None,
    cluster: Cluster | None = None,
    backup: Backup | None = None,
    scheduled: Scheduled | None = None,
    **params: Any,
) -> Job:
    """Add a queued job; the caller starts it with ``site.start`` once the transaction is committed."""
    if cluster is not None and instance is None:
        params["partition"] = cluster.id
    if scheduled is not None:
        params["run"] = scheduled.run
    job = Job(
        id=scheduled.job if scheduled else _next_id(),
        project=project,
        kind=kind,
        host=instance.host if instance else None,
        instance_id=instance.id if instance else None,
        instance_name=instance.name if instance else cluster.name if cluster else "",
        cluster_id=cluster.id if cluster else None,
        backup_id=backup.id if backup else None,
        params=params,
        asked_by=(asker.get() or (f"policy {scheduled.policy}" if scheduled else ""))[:255],
    )
    session.add(job)
    session.flush()
    return job


def _next_id() -> str:
    """A UUID of version 7 with a fraction of the millisecond (RFC 9562, 6.2).

    DBOS on SQLite orders jobs by the second, and those of the same second by their ids.
    """
    milliseconds, rest = divmod(time.time_ns(), 1_000_000)
    fraction = rest * 4096 // 1_000_000
    return str(uuid.UUID(int=milliseconds << 80 | 7 << 76 | fraction << 64 | 2 << 62 | secrets.randbits(62)))


def refuse_if_busy(session: Session, instance: Instance, operation: str) -> None:
    """Raise Busy when a job is queued or running on the instance: only one at a time may. ``operation`` is what is refused."""
    of_cluster = unfinished_jobs(session, cluster_id=instance.cluster_id) if instance.cluster_id else []
    for job in [*unfinished_jobs(session, instance_id=instance.id), *of_cluster]:
        raise Busy(
            f"instance {instance.name} ({instance.id}) is busy: {job.kind} job {job.id} is {job.status}; cannot {operation} now",
            remedy=f"Wait for it (`strongroom job follow {job.id}`) or cancel it (`strongroom job cancel {job.id}`).",
        )


def refuse_if_node(instance: Instance, operation: str) -> None:
    """Raise Unsupported for a node of a cluster: the commands for clusters do this for all nodes."""
    if instance.cluster_id is not None:
        raise Unsupported(
            f"instance {instance.name} ({instance.id}) is {instance.node} of a cluster; {operation} is not possible for one node",
            remedy=f"Use a command for cluster {instance.cluster_id} (`strongroom cluster --help`).",
        )


async def wait_job(site: Site, project: str | None, job_id: str, *, after: int, seconds: float) -> Job:
    """The job as soon as it has more than ``after`` events or is finished, but at the latest after ``seconds``."""

    def read() -> Job:
        with site.catalog.read() as session:
            return find_job(session, project, job_id)

    deadline = time.monotonic() + seconds
    with site.catalog.changes.watch() as change:
        while True:
            change.clear()
            job = await asyncio.to_thread(read)
            if job.finished is not None or job.events > after or time.monotonic() >= deadline:
                return job
            with suppress(TimeoutError):
                await asyncio.wait_for(change.wait(), deadline - time.monotonic())
            await asyncio.sleep(NOTICE)  # treat several commits as one change


def request_cancel(site: Site, project: str | None, job_id: str) -> Job:
    """Cancel a job: a queued one ends now, a running one as soon as its programs are stopped. Raises NotFound, Busy."""
    with site.catalog.write() as session:
        job = find_job(session, project, job_id)
        if job.finished is not None:
            ended = "was already cancelled" if job.status == "cancelled" else f"has already {job.status}"
            raise Busy(f"job {job.id} {ended}; nothing to cancel")
        if refuse := kind_of(job.kind).refuse_cancel:
            refuse(session, job)
        cancel_job(session, job)
    return job


def cancel_job(session: Session, job: Job) -> None:
    """Mark the job as cancelled; its steps notice that within a second."""
    job.cancel = True
    if job.status == "queued":
        outcomes.settle(session, job, Cancelled(f"{job.kind} job {job.id} was cancelled before it started").to_dict())
    else:
        job.message = "cancelling"
        job.events += 1
