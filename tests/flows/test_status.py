"""The states of entities: every move in the tables, and none beside them."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.catalog import Backup, Cluster, Instance, Job
from strongroom.errors import Conflict
from strongroom.flows.status import CREATED, MACHINES, Machine, draw, move_backup, move_cluster, move_instance, move_job

PAGE = Path(__file__).parents[2] / "docs" / "architecture.md"


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.noun)
def test_every_state_is_reachable_and_drawn(machine: Machine) -> None:
    reached, waiting = {CREATED}, [CREATED]
    while waiting:
        for name in machine.states[waiting.pop()].following:
            assert name in machine.states
            if name not in reached:
                reached.add(name)
                waiting.append(name)
    assert reached == set(machine.states)
    assert "\n".join(draw(machine)) in PAGE.read_text(), "run scripts/docs"


def test_completed_backup_ends_only_by_deletion() -> None:
    backup = Backup(id="b", status="COMPLETED")
    for status in ("BUILDING", "FAILED", "RESTORED", "DELETED"):
        with pytest.raises(Conflict, match=f"backup b cannot change from COMPLETED to {status}"):
            move_backup(backup, status)
    assert backup.status == "COMPLETED"
    move_backup(backup, "DELETING")
    move_backup(backup, "DELETED")
    with pytest.raises(Conflict):
        move_backup(backup, "COMPLETED")


def test_a_job_ends_once() -> None:
    job = Job(id="j", status="running", events=1)
    move_job(job, "failed")
    move_job(job, "failed")
    assert job.events == 2
    with pytest.raises(Conflict):
        move_job(job, "succeeded")


def test_deleted_resources_get_no_other_task() -> None:
    instance, cluster = Instance(id="i", task="SHUTDOWN"), Cluster(id="c", task="DELETING")
    with pytest.raises(Conflict):
        move_instance(instance, "RESTORE")
    with pytest.raises(Conflict):
        move_cluster(cluster, "RESTORING")
    move_instance(instance, None)  # a reset
    move_instance(instance, "RESTORE")
    assert (instance.task, cluster.task) == ("RESTORE", "DELETING")
