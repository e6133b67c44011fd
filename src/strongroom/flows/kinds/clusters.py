"""Everything that is done to a Galera cluster as a whole. The steps themselves are in modules of their own."""

from __future__ import annotations

from sqlalchemy.orm import Session

from strongroom.catalog import Cluster, Job, Run, now
from strongroom.catalog.find import nodes_of
from strongroom.errors import Busy
from strongroom.flows.clusters import actions, restore
from strongroom.flows.clusters.phases import is_reversible, make_steps, undo_run
from strongroom.flows.kind import Failure, JobKind, Step
from strongroom.flows.status import move_instance


def _settle_nodes(session: Session, job: Job, failure: Failure | None) -> None:
    """The nodes show the task of a cluster that is made or deleted."""
    cluster = session.get(Cluster, job.cluster_id)
    assert cluster is not None
    for node in nodes_of(session, cluster.id):
        move_instance(node, cluster.task)


def _settle_deletion(session: Session, job: Job, failure: Failure | None) -> None:
    cluster = session.get(Cluster, job.cluster_id)
    assert cluster is not None
    if failure is None:
        cluster.deleted = now()
    else:
        _settle_nodes(session, job, failure)


def _refuse_cancel(session: Session, job: Job) -> None:
    run = session.get(Run, job.params.get("run", job.id))
    if run is not None and not is_reversible(run.phase):
        raise Busy(f"job {job.id} is beyond the point of no return: the new data serves", remedy="Let it come to its end.")


def _running(name: str, step: Step) -> JobKind:
    """Something that is done to a cluster which exists before and after."""
    operation = name.removeprefix("cluster_").replace("_", " ")
    return JobKind(name=name, operation=f"{operation} cluster", steps=(step,), lane="clusters", has_task=True)


KINDS = (
    JobKind(
        name="cluster_create",
        operation="create cluster",
        steps=(restore.define, *make_steps(without=["stop"])),
        lane="clusters",
        settle=_settle_nodes,
        has_task=True,
        failed_task="ERROR",
    ),
    JobKind(
        name="cluster_adopt",
        operation="adopt cluster",
        steps=(actions.adopt,),
        lane="clusters",
        settle=_settle_nodes,
        has_task=True,
        failed_task="ERROR",
    ),
    JobKind(
        name="cluster_restore",
        operation="restore backup {backup}",
        steps=make_steps(),
        lane="clusters",
        clean=undo_run,
        refuse_cancel=_refuse_cancel,
        has_task=True,
    ),
    JobKind(
        name="cluster_delete",
        operation="delete cluster",
        steps=(actions.delete,),
        lane="clusters",
        settle=_settle_deletion,
        has_task=True,
        failed_task="ERROR",
    ),
    _running("cluster_recover", actions.recover),
    _running("cluster_restart", actions.restart),
    _running("cluster_activate", actions.activate),
    _running("cluster_discard_old", actions.discard_old),
)
