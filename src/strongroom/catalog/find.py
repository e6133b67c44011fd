"""Finds rows by id, or by a name that is unique in the project."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Select, bindparam, or_, select
from sqlalchemy.orm import Session

from strongroom.catalog._tables import Backup, Cluster, Instance, Job, Run, Strategy
from strongroom.errors import Conflict, InvalidRequest, NotFound

Named = TypeVar("Named", Instance, Backup, Cluster)


def _find_row(session: Session, table: type[Named], noun: str, project: str | None, ref: str) -> Named:
    values = {"ref": ref} if project is None else {"ref": ref, "project": project}
    by_id: Named | None = session.scalars(_build_query(table, "id", project is not None), values).one_or_none()
    if by_id is not None:
        return by_id
    named: Sequence[Named] = session.scalars(_build_query(table, "name", project is not None).limit(10), values).all()
    if not named:
        raise NotFound(f"{noun} {ref} cannot be found", remedy=f"See `strongroom {noun} list`.")
    if len(named) > 1:
        ids = ", ".join(row.id for row in named)
        raise Conflict(f"{len(named)} {noun}s are named {ref}: {ids}", remedy="Use the id.")
    return named[0]


@lru_cache(8)
def _build_query(table: type[Named], column: str, owned: bool) -> Select[Any]:
    """The query, cached: building a statement takes longer than running it."""
    query = select(table).where(table.deleted.is_(None), getattr(table, column) == bindparam("ref"))
    return query.where(table.project == bindparam("project")) if owned else query


def find_instance(session: Session, project: str | None, ref: str) -> Instance:
    """The existing instance with this id or unique name. Raises NotFound, Conflict. ``project`` None looks in all projects."""
    return _find_row(session, Instance, "instance", project, ref)


def find_backup(session: Session, project: str | None, ref: str) -> Backup:
    """The existing backup with this id or unique name. Raises NotFound, Conflict. ``project`` None looks in all projects."""
    return _find_row(session, Backup, "backup", project, ref)


def find_cluster(session: Session, project: str | None, ref: str) -> Cluster:
    """The existing cluster with this id or unique name. Raises NotFound, Conflict. ``project`` None looks in all projects."""
    return _find_row(session, Cluster, "cluster", project, ref)


def nodes_of(session: Session, cluster_id: str) -> list[Instance]:
    """The existing nodes of a cluster, in order of their names."""
    living = select(Instance).where(Instance.cluster_id == cluster_id, Instance.deleted.is_(None))
    return sorted(session.scalars(living), key=lambda node: (len(node.node or ""), node.node or ""))


def open_run(session: Session, cluster_id: str) -> Run | None:
    """The newest restore of the cluster, if it is neither done nor undone."""
    newest = select(Run).where(Run.cluster_id == cluster_id).order_by(Run.created.desc(), Run.id.desc()).limit(1)
    run = session.scalars(newest).one_or_none()
    return run if run is not None and run.phase not in Run.OVER else None


def find_job(session: Session, project: str | None, job_id: str) -> Job:
    """The job with this id. Raises NotFound."""
    job = session.get(Job, job_id)
    if job is None or (project is not None and job.project != project):
        raise NotFound(f"job {job_id} cannot be found", remedy="See `strongroom job list`.")
    return job


def chain_of(session: Session, backup: Backup) -> list[Backup]:
    """The backup and its ancestors, the full backup first. One query for chains of any length.

    Raises InvalidRequest if the row of a parent is missing or the chain has a cycle.
    """
    links = {link.id: link for link in session.scalars(select(Backup).where(Backup.chain_id == backup.chain_id))}
    chain, seen = [backup], {backup.id}
    while (parent_id := chain[-1].parent_id) is not None:
        parent = links.get(parent_id) or session.get(Backup, parent_id)
        if parent is None or parent.deleted is not None:
            raise InvalidRequest(
                f"backup {backup.name} ({backup.id}) cannot be restored: it depends on backup {parent_id}, which does not exist",
                remedy="Choose another backup.",
            )
        if parent.id in seen:
            raise InvalidRequest(f"the chain of backup {backup.id} has a cycle at {parent.id}")
        seen.add(parent.id)
        chain.append(parent)
    return chain[::-1]


def children_of(session: Session, backup_id: str) -> list[Backup]:
    """Existing backups whose parent is this one."""
    return list(
        session.scalars(select(Backup).where(Backup.parent_id == backup_id, Backup.deleted.is_(None)).order_by(Backup.created))
    )


def descendants_of(session: Session, backup_id: str) -> list[Backup]:
    """Existing backups that depend on this one, children before parents: the order in which they can be deleted.

    One query for chains of any length.
    """
    root = session.get(Backup, backup_id)
    if root is None:
        return []
    living = select(Backup).where(Backup.deleted.is_(None), or_(Backup.chain_id == root.chain_id, Backup.parent_id == backup_id))
    children: dict[str | None, list[Backup]] = {}
    for link in session.scalars(living.order_by(Backup.created)):
        children.setdefault(link.parent_id, []).append(link)
    found: list[Backup] = []
    seen, waiting = {backup_id}, [backup_id]
    while waiting:
        for child in children.get(waiting.pop(), []):
            if child.id not in seen:
                seen.add(child.id)
                found.append(child)
                waiting.append(child.id)
    return found[::-1]


def unfinished_jobs(
    session: Session, *, instance_id: str | None = None, backup_ids: set[str] | None = None, cluster_id: str | None = None
) -> list[Job]:
    """Queued and running jobs, oldest first: of an instance, of a cluster, or of any of ``backup_ids``."""
    query = select(Job).where(Job.finished.is_(None)).order_by(Job.created)
    if instance_id is not None:
        query = query.where(Job.instance_id == instance_id)
    if cluster_id is not None:
        query = query.where(Job.cluster_id == cluster_id)
    if backup_ids is not None:
        query = query.where(Job.backup_id.in_(backup_ids))
    return list(session.scalars(query))


def container_for(session: Session, project: str, instance_id: str, asked: str | None, default: str) -> str:
    """The container of a new backup, by Trove's precedence: request, strategy of the instance, of the project, configuration."""
    if asked:
        return asked
    for key in (instance_id, ""):
        strategy = session.get(Strategy, (project, key))
        if strategy is not None:
            return strategy.container
    return default
