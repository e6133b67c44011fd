"""What a kind of job is: its steps, what it competes for, what its end means. The kinds themselves are in ``kinds``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Instance, Job
from strongroom.catalog.find import nodes_of, unfinished_jobs
from strongroom.errors import JobError
from strongroom.flows.site import Site
from strongroom.flows.status import move_backup, move_cluster, move_instance
from strongroom.worker.spec import JobRequest

Failure = dict[str, str]
"""code, message, remedy: ``StrongroomError.to_dict``."""
Step = Callable[[Site, str], Awaitable[None]]
"""Takes the id of the job. Idempotent; raises what ends the job."""
Cleaner = Callable[[Site, str], Awaitable[bool | None]]
"""Runs after a failure. True: the job has succeeded after all."""
Lane = Literal["heavy", "light", "clusters", "stores"]
"""What a job competes for with others. heavy: reads or writes a whole database, ``agent.jobs`` of them at a time on a host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """One kind of job. Changing the steps of one needs a new workflow version (``engine.WORKFLOWS``)."""

    name: str
    operation: str
    """What it does, as in "Failed to start instance". ``{backup}`` stands for the id of its backup."""
    steps: tuple[Step, ...]
    lane: Lane = "light"
    clean: Cleaner | None = None
    order: Callable[[Site, Session, Job], JobRequest] | None = None
    """The request for the agent, for kinds that run a worker. Secrets are added here and kept nowhere."""
    begin: Callable[[Session, Job], None] | None = None
    """What the start of the job means for the catalog."""
    settle: Callable[[Session, Job, Failure | None], None] | None = None
    """What its end means for the catalog, beside what is the same for all kinds."""
    refuse_cancel: Callable[[Session, Job], None] | None = None
    """Raises when the job cannot be cancelled any more."""
    has_task: bool = False
    """The instance or cluster shows a task for as long as the job runs."""
    failed_task: str | None = None
    """The task that it shows after a failure."""
    shows_failure: bool = True
    """A failure shows as the fault of the instance."""
    clears_fault: bool = False
    """Success removes the fault that the instance shows."""
    outlives_cancel: bool = False
    """A cancel does not count between steps: what is complete by then is kept."""


_KINDS: dict[str, JobKind] = {}
_HALF_DONE = ("BUILD", "BUILDING", "SHUTDOWN", "DELETING", "ERROR")
"""Tasks of what is being made or deleted."""


def register(*kinds: JobKind) -> None:
    """Make kinds known by their names."""
    for kind in kinds:
        assert kind.name not in _KINDS, f"two kinds are called {kind.name}"
        _KINDS[kind.name] = kind


def kind_of(name: str) -> JobKind:
    """The kind with this name. One that only another version of this service knows has a single step, which fails."""
    return _KINDS.get(name) or JobKind(name=name, operation=f"do {name}", steps=(_refuse,), settle=_release)


def _release(session: Session, job: Job, failure: Failure | None) -> None:
    """End what the request for a job of an unknown kind has begun in the catalog, unless it is of another job."""
    cluster = session.get(Cluster, job.cluster_id) if job.cluster_id else None
    instance = session.get(Instance, job.instance_id) if job.instance_id else None
    if cluster is not None and not _others(unfinished_jobs(session, cluster_id=cluster.id), job):
        _end_task(cluster)
        for node in nodes_of(session, cluster.id):
            _end_task(node)
    if instance is not None and not _others(unfinished_jobs(session, instance_id=instance.id), job):
        _end_task(instance)
    backup = session.get(Backup, job.backup_id) if job.backup_id else None
    if (
        backup is not None
        and backup.status in (*Backup.RUNNING, "DELETING")
        and not _others(unfinished_jobs(session, backup_ids={backup.id}), job)
    ):
        move_backup(backup, "DELETE_FAILED" if backup.status == "DELETING" else "FAILED")
        backup.fault = dict(failure) if failure else None


def _others(jobs: list[Job], job: Job) -> list[Job]:
    return [other for other in jobs if other.id != job.id]


def _end_task(thing: Instance | Cluster) -> None:
    """What was being made or deleted may be half there, and can only be deleted."""
    task = "ERROR" if thing.task in _HALF_DONE else None
    if isinstance(thing, Instance):
        move_instance(thing, task)
    else:
        move_cluster(thing, task)


async def _refuse(_site: Site, job_id: str) -> None:
    raise JobError(
        f"job {job_id} is of a kind that this version of Strongroom does not know",
        remedy="Ask for it again, or run the version that it was asked of.",
    )
