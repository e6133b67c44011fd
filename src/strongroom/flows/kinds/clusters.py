"""Everything that is done to a Galera cluster as a whole. The steps themselves are in modules of their own."""

from __future__ import annotations

from sqlalchemy.orm import Session

from strongroom.catalog import Cluster, Job, now
from strongroom.catalog.find import nodes_of
from strongroom.flows import _assembly, _cluster_steps, _put_back
from strongroom.flows._kind import Failure, JobKind, Step


def _settle_nodes(session: Session, job: Job, failure: Failure | None) -> None:
    """The nodes show the task of a cluster that is made or deleted."""
    cluster = session.get(Cluster, job.cluster_id)
    assert cluster is not None
    for node in nodes_of(session, cluster.id):
        node.task = cluster.task


def _settle_deletion(session: Session, job: Job, failure: Failure | None) -> None:
    cluster = session.get(Cluster, job.cluster_id)
    assert cluster is not None
    if failure is None:
        cluster.deleted = now()
    else:
        _settle_nodes(session, job, failure)


def _running(name: str, step: Step) -> JobKind:
    """Something that is done to a cluster which exists before and after."""
    operation = name.removeprefix("cluster_").replace("_", " ")
    return JobKind(name=name, operation=f"{operation} cluster", steps=(step,), lane="clusters", has_task=True)


KINDS = (
    JobKind(
        name="cluster_create",
        operation="create cluster",
        steps=(
            *(_assembly.define, _assembly.prepare, _assembly.seed, _assembly.swap),
            *(_assembly.bootstrap, _assembly.join, _assembly.check, _assembly.finish),
        ),
        lane="clusters",
        settle=_settle_nodes,
        has_task=True,
        failed_task="ERROR",
    ),
    JobKind(
        name="cluster_adopt",
        operation="adopt cluster",
        steps=(_cluster_steps.adopt,),
        lane="clusters",
        settle=_settle_nodes,
        has_task=True,
        failed_task="ERROR",
    ),
    JobKind(
        name="cluster_restore",
        operation="restore backup {backup}",
        steps=(
            *(_assembly.prepare, _assembly.seed, _assembly.stop, _assembly.swap),
            *(_assembly.bootstrap, _assembly.join, _assembly.check, _assembly.finish),
        ),
        lane="clusters",
        clean=_put_back.undo,
        has_task=True,
    ),
    JobKind(
        name="cluster_delete",
        operation="delete cluster",
        steps=(_cluster_steps.delete,),
        lane="clusters",
        settle=_settle_deletion,
        has_task=True,
        failed_task="ERROR",
    ),
    _running("cluster_recover", _cluster_steps.recover),
    _running("cluster_restart", _cluster_steps.restart),
    _running("cluster_activate", _cluster_steps.activate),
    _running("cluster_discard_old", _cluster_steps.discard_old),
)
