"""The states of backups, instances, clusters and jobs, and their transitions. Only this module changes a state.

A transition to the current state changes nothing. A refused transition is a defect of the caller: it is logged and raises
Conflict.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import update
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Cluster, Instance, Job, now
from strongroom.errors import Conflict

log = structlog.get_logger()

CREATED = "created"
"""The state of a new row."""
IDLE = "none"
"""No operation: the task is null."""
_ROWS_PER_STATEMENT = 1000


@dataclass(frozen=True, slots=True)
class State:
    """One state: its meaning, and the states that can follow."""

    meaning: str
    following: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Machine:
    """All states of one entity."""

    noun: str
    states: Mapping[str, State]

    def require(self, key: str, old: str, new: str) -> bool:
        """Whether the state changes. Raises Conflict for a transition that is not in the table.

        A state that only another version of this service knows can change to any other.
        """
        if old == new:
            return False
        state = self.states.get(old)
        if state is not None and new not in state.following:
            log.error("refused to change a state", noun=self.noun, id=key, old=old, new=new)
            raise Conflict(
                f"{self.noun} {key} cannot change from {old} to {new}",
                remedy="Wait for its jobs to end; then try again, or reset its status.",
            )
        return True


JOBS = Machine(
    "job",
    {
        CREATED: State("", ("queued",)),
        "queued": State("waits for capacity, or for another job on the same target", ("running", "failed", "cancelled")),
        "running": State("its steps run", ("succeeded", "failed", "cancelled")),
        "succeeded": State("all steps succeeded", ()),
        "failed": State("a step failed; the job has cleaned up", ()),
        "cancelled": State("a user cancelled it", ()),
    },
)
BACKUPS = Machine(
    "backup",
    {
        CREATED: State("", ("NEW", "COMPLETED", "RESTORED")),
        "NEW": State("requested; its job is queued", ("BUILDING", "FAILED")),
        "BUILDING": State("its job writes or reads it", ("COMPLETED", "RESTORED", "FAILED")),
        "COMPLETED": State("its manifest is in the store", ("DELETING",)),
        "RESTORED": State("an imported or registered backup, as in Trove", ("DELETING",)),
        "FAILED": State("its job failed; if a manifest is found later, it becomes COMPLETED", ("COMPLETED", "DELETING")),
        "DELETING": State("its objects are being deleted", ("DELETED", "DELETE_FAILED", "COMPLETED", "RESTORED")),
        "DELETE_FAILED": State("some objects could not be deleted", ("DELETING",)),
        "DELETED": State("deleted", ()),
    },
)
INSTANCES = Machine(
    "instance",
    {
        CREATED: State("", ("BUILD",)),
        "BUILD": State("is being created or adopted", (IDLE, "SHUTDOWN", "ERROR")),
        IDLE: State("no operation", ("RESTORE", "REBOOT", "RESIZE", "SHUTDOWN", "ERROR")),
        "RESTORE": State("is being restored in place", (IDLE, "SHUTDOWN", "ERROR")),
        "REBOOT": State("is being started, stopped, restarted or activated", (IDLE, "SHUTDOWN", "ERROR")),
        "RESIZE": State("is being changed to another flavor", (IDLE, "SHUTDOWN", "ERROR")),
        "SHUTDOWN": State("is being deleted", (IDLE, "ERROR")),
        "ERROR": State("its creation or deletion failed", (IDLE, "RESTORE", "REBOOT", "SHUTDOWN")),
    },
)
CLUSTERS = Machine(
    "cluster",
    {
        CREATED: State("", ("BUILDING",)),
        "BUILDING": State("is being created or adopted", (IDLE, "DELETING", "ERROR")),
        IDLE: State("no operation", ("RESTORING", "RECOVERING", "RESTARTING", "DELETING", "ERROR")),
        "RESTORING": State("is being restored", (IDLE, "DELETING", "ERROR")),
        "RECOVERING": State("is being recovered without a backup", (IDLE, "DELETING", "ERROR")),
        "RESTARTING": State("its nodes are being restarted, one at a time", (IDLE, "DELETING", "ERROR")),
        "DELETING": State("is being deleted", (IDLE, "ERROR")),
        "ERROR": State("its creation, adoption or deletion failed", (IDLE, "RESTORING", "RECOVERING", "RESTARTING", "DELETING")),
    },
)
MACHINES = (JOBS, BACKUPS, INSTANCES, CLUSTERS)


def move_job(job: Job, status: str) -> None:
    """Change the status of a job. Raises Conflict."""
    if JOBS.require(job.id, job.status or CREATED, status):
        job.status = status
        job.events = (job.events or 0) + 1


def move_backup(backup: Backup, status: str) -> None:
    """Change the status of a backup. Raises Conflict."""
    if BACKUPS.require(backup.id, backup.status or CREATED, status):
        backup.status = status
        backup.updated = now()


def move_backups(session: Session, backups: Sequence[Backup], status: str) -> None:
    """Change the status of many backups, with few statements. Raises Conflict before any is changed."""
    ids = [backup.id for backup in backups if BACKUPS.require(backup.id, backup.status, status)]
    for at in range(0, len(ids), _ROWS_PER_STATEMENT):
        batch = ids[at : at + _ROWS_PER_STATEMENT]
        session.execute(update(Backup).where(Backup.id.in_(batch)).values(status=status, updated=now()))


def move_instance(instance: Instance, task: str | None) -> None:
    """Change the task of an instance; None: no operation. Raises Conflict."""
    if INSTANCES.require(instance.id, instance.task or IDLE, task or IDLE):
        instance.task = task
    instance.updated = now()


def move_cluster(cluster: Cluster, task: str | None) -> None:
    """Change the task of a cluster; None: no operation. Raises Conflict."""
    if CLUSTERS.require(cluster.id, cluster.task or IDLE, task or IDLE):
        cluster.task = task
    cluster.updated = now()


def draw(machine: Machine) -> list[str]:
    """The states of an entity as lines of text: state, states that can follow, meaning."""
    states = {name: ", ".join(state.following) or "(end)" for name, state in machine.states.items()}
    width, arrows = max(map(len, states)), max(map(len, states.values()))
    return [
        f"{name:{width}} → {following:{arrows}}  {machine.states[name].meaning}".rstrip() for name, following in states.items()
    ]
