"""The definition of a kind of job: its steps, the capacity that it uses, and the effect of its end. ``kinds`` has the kinds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Instance, Job
from strongroom.catalog.find import nodes_of, unfinished_jobs
from strongroom.errors import JobError, StrongroomError
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
"""The capacity that a job uses. heavy: reads or writes a whole database; a host runs ``agent.jobs`` of them at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobKind:
    """One kind of job. A change of its steps needs a new version of the workflows (``engine.WORKFLOWS``)."""

    name: str
    operation: str
    """What it does, as in "Failed to start instance". ``{backup}`` is replaced by the id of its backup."""
    steps: tuple[Step, ...]
    lane: Lane = "light"
    clean: Cleaner | None = None
    order: Callable[[Site, Session, Job], JobRequest] | None = None
    """Makes the request for the agent, for kinds that run a worker. Secrets are added here and stored nowhere."""
    retry: Callable[[Session, Job, StrongroomError], bool] | None = None
    """Changes the job after a failure of its worker, so that another worker may succeed. False if none can."""
    begin: Callable[[Session, Job], None] | None = None
    """Changes the catalog when the job starts."""
    settle: Callable[[Session, Job, Failure | None], None] | None = None
    """Changes the catalog when the job ends, in addition to what all kinds change."""
    refuse_cancel: Callable[[Session, Job], None] | None = None
    """Raises if the job can no longer be cancelled."""
    has_task: bool = False
    """The instance or cluster has a task while the job runs."""
    failed_task: str | None = None
    """The task that it has after a failure."""
    shows_failure: bool = True
    """A failure becomes the fault of the instance or cluster."""
    clears_fault: bool = False
    """Success removes the fault of the instance."""
    outlives_cancel: bool = False
    """A cancellation has no effect between steps: a backup that is complete by then is kept."""


_KINDS: dict[str, JobKind] = {}
_HALF_DONE = ("BUILD", "BUILDING", "SHUTDOWN", "DELETING", "ERROR")
"""Tasks of an instance or cluster that may exist only in part."""


def register(*kinds: JobKind) -> None:
    """Register kinds by their names."""
    for kind in kinds:
        assert kind.name not in _KINDS, f"two kinds are called {kind.name}"
        _KINDS[kind.name] = kind


def list_kinds() -> list[str]:
    """The names of all kinds of jobs."""
    return sorted(_KINDS)


def kind_of(name: str) -> JobKind:
    """The kind with this name. For a name that only another version of the service knows: a kind whose only step fails."""
    return _KINDS.get(name) or JobKind(name=name, operation=f"do {name}", steps=(_refuse,), settle=_release)


def _release(session: Session, job: Job, failure: Failure | None) -> None:
    """Revert the states that the request for a job of an unknown kind has set, unless another job uses them."""
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
    """End the task. An instance or cluster that may exist only in part can only be deleted."""
    task = "ERROR" if thing.task in _HALF_DONE else None
    if isinstance(thing, Instance):
        move_instance(thing, task)
    else:
        move_cluster(thing, task)


async def _refuse(_site: Site, job_id: str) -> None:
    raise JobError(
        f"this version of Strongroom does not know the kind of job {job_id}",
        remedy="Request it again, or run the version that accepted the request.",
    )
