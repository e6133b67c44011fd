"""Finds rows by id, or by a name that is unique in the project."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar

from sqlalchemy import Select, bindparam, or_, select
from sqlalchemy.orm import Session

from strongroom.catalog._policies import Policy
from strongroom.catalog._tables import Backup, Cluster, Instance, Job, Run, Strategy
from strongroom.errors import Conflict, InvalidRequest, NotFound

Named = TypeVar("Named", Instance, Backup, Cluster)

SHORT_ID = re.compile("[0-9a-f]{8}[0-9a-f-]{0,27}")
"""A short id: the beginning of an id, if no other id begins with it and it is not a name."""


def _find_row(session: Session, table: type[Named], noun: str, project: str | None, ref: str) -> Named:
    values = {"ref": ref} if project is None else {"ref": ref, "project": project}
    by_id: Named | None = session.scalars(_build_query(table, "id", project is not None), values).one_or_none()
    if by_id is not None:
        return by_id
    named: Sequence[Named] = session.scalars(_build_query(table, "name", project is not None).limit(10), values).all()
    if len(named) > 1:  # a name that was deleted can be used again
        named = [row for row in named if not (isinstance(row, Backup) and row.trashed)] or named
    how = f"are named {ref}"
    if not named and SHORT_ID.fullmatch(ref):
        named = session.scalars(_build_short_id_query(table, project is not None).limit(10), {**values, "after": ref + "g"}).all()
        how = f"have an id that begins with {ref}"
    if not named:
        raise NotFound(f"{noun} {ref} cannot be found", remedy=f"See `strongroom {noun} list`.")
    if len(named) > 1:
        known = "; ".join(map(_describe, sorted(named, key=lambda row: row.created)))
        raise Conflict(
            f"{len(named)} {noun}s {how}: {known}",
            remedy=f"Use the full id; `strongroom {noun} list --wide` shows it.",
        )
    return named[0]


def _describe(row: Instance | Backup | Cluster) -> str:
    """What distinguishes the row from others with the same name."""
    created = f"{row.id}, created {row.created:%Y-%m-%d %H:%M} UTC"
    match row:
        case Instance():
            return f"{created}, {row.state}" + (f", at {row.address}:{row.port}" if row.address else "")
        case Backup():
            return f"{created}, {row.status} {row.kind} backup of instance {row.instance_name}"
        case _:
            return f"{created}, {row.datastore} {row.series}"


@lru_cache(8)
def _build_query(table: type[Named], column: str, owned: bool) -> Select[Any]:
    """The query, cached: building a statement takes longer than running it."""
    query = select(table).where(table.deleted.is_(None), getattr(table, column) == bindparam("ref"))
    if issubclass(table, Backup):
        query = query.order_by(table.trashed)
    return query.where(table.project == bindparam("project")) if owned else query


@lru_cache(8)
def _build_short_id_query(table: type[Named], owned: bool) -> Select[Any]:
    """The query for a short id: a range, so that it uses the index."""
    query = select(table).where(table.deleted.is_(None), table.id >= bindparam("ref"), table.id < bindparam("after"))
    return query.where(table.project == bindparam("project")) if owned else query


def owner_of(
    session: Session, table: type[Instance] | type[Backup] | type[Cluster] | type[Job] | type[Policy], project: str, ref: str
) -> str | None:
    """The project of the row with this id, or with this short id unless it is a name in ``project``; None if there is no row."""
    owner: str | None = session.scalar(select(table.project).where(table.id == ref))
    if owner is not None or issubclass(table, Job | Policy) or not SHORT_ID.fullmatch(ref):
        return owner
    if session.execute(_build_query(table, "name", True), {"ref": ref, "project": project}).first() is not None:
        return project
    found = session.scalars(_build_short_id_query(table, False).limit(2), {"ref": ref, "after": ref + "g"}).all()
    return str(found[0].project) if len(found) == 1 else None


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
    """The job with this id, or with this end of its id, because ids of jobs begin with the time. Raises NotFound, Conflict."""
    job = session.get(Job, job_id)
    if job is None and re.fullmatch("[0-9a-f]{8,12}", job_id):
        query = select(Job).where(Job.id.endswith(job_id)).limit(2)
        ending = session.scalars(query if project is None else query.where(Job.project == project)).all()
        if len(ending) > 1:
            raise Conflict(f"several jobs have an id that ends with {job_id}", remedy="Use the full id.")
        job = ending[0] if ending else None
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


def ancestors_of(session: Session, backup: Backup) -> list[Backup]:
    """The existing backups that it is based on, its parent first, as far as they are known. One query for any length."""
    living = select(Backup).where(Backup.chain_id == backup.chain_id, Backup.deleted.is_(None))
    links = {link.id: link for link in session.scalars(living)} if backup.parent_id else {}
    found: list[Backup] = []
    at = links.get(backup.parent_id or "")
    while at is not None:
        found.append(at)
        del links[at.id]
        at = links.get(at.parent_id or "")
    return found


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
