"""The plan of a deletion: what is deleted, what is kept, and why it is refused. Planning changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Instance, Job, now
from strongroom.catalog.find import descendants_of, find_backup, find_cluster, find_instance, nodes_of, unfinished_jobs
from strongroom.catalog.queries import broken_chains
from strongroom.errors import StrongroomError
from strongroom.flows.clusters.backup import refuse_full_backup
from strongroom.flows.jobs import refuse_if_node
from strongroom.flows.kinds.backup import refuse_backup
from strongroom.flows.kinds.deletion import refuse_deletion, waits_for_sweep
from strongroom.flows.records import refuse_if_protected
from strongroom.flows.retention.marks import grace_of
from strongroom.flows.site import Site
from strongroom.protection.clock import format_second


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeletedBackup(_Model):
    """A backup that would be deleted."""

    id: str
    name: str
    kind: str
    instance_name: str
    created: str
    stored_size: int | None


class KeptBackup(_Model):
    """A backup that is kept."""

    id: str
    name: str
    created: str
    verified: str | None = Field(description="When its newest verification succeeded; null if there was none.")


class CancelledJob(_Model):
    """A job that would be cancelled."""

    id: str
    kind: str


class Refusal(_Model):
    """Why the deletion would be refused."""

    message: str
    remedy: str


class DeletePlan(_Model):
    """What a deletion would do."""

    noun: Literal["instance", "cluster", "backup"]
    id: str
    name: str
    allowed: bool = Field(description="False: the deletion would be refused.")
    refused: list[Refusal]
    protected: bool
    adopted: bool = Field(description="The servers are only removed from the catalog: they keep running with their data.")
    bytes: int = Field(description="Bytes of data, or in the store, that are deleted.")
    old_bytes: int = Field(description="Bytes of previous data, kept by restores, that are deleted.")
    nodes: list[str] = Field(description="Names of the nodes of a cluster.")
    backups: list[DeletedBackup] = Field(description="Backups that are deleted, children before parents.")
    sweep_at: str | None = Field(
        None,
        description="Until then, the backups stay in the store and can be undeleted; null: they are removed at once.",
    )
    jobs: list[CancelledJob] = Field(description="Jobs that are cancelled.")
    final_backup: bool = Field(False, description="A full backup is taken first; nothing is deleted unless it is complete.")
    kept: int = Field(description="Restorable backups of the same instance or cluster that are kept.")
    newest: KeptBackup | None = Field(description="The newest of these.")
    newest_verified: KeptBackup | None = Field(description="The newest of these whose verification succeeded.")


def plan_delete_instance(site: Site, project: str, instance: str, *, final_backup: bool = False) -> DeletePlan:
    """What `request_delete_instance`, or with ``final_backup`` `request_final_deletion`, would do. Raises NotFound, Conflict."""
    with site.catalog.read() as session:
        row = find_instance(session, project, instance)

        def refuse() -> None:
            refuse_if_node(row, "delete")
            refuse_if_protected([row])
            if final_backup:
                refuse_backup(session, site, row)

        refused = _refusals(refuse)
        kept = _restorable(session, Backup.instance_id == row.id)
        jobs = unfinished_jobs(session, instance_id=row.id)
        return DeletePlan(
            noun="instance",
            id=row.id,
            name=row.name,
            allowed=not refused,
            refused=refused,
            protected=row.protected,
            nodes=[],
            backups=[],
            jobs=_cancelled([] if final_backup else jobs),
            final_backup=final_backup,
            **_data_of([row]),
            **_kept(kept),
        )


def plan_delete_cluster(site: Site, project: str, cluster: str, *, final_backup: bool = False) -> DeletePlan:
    """What `request_delete_cluster`, or with ``final_backup`` `request_final_cluster_deletion`, would do.

    Raises NotFound, Conflict.
    """
    with site.catalog.read() as session:
        row = find_cluster(session, project, cluster)
        nodes = nodes_of(session, row.id)

        def refuse() -> None:
            refuse_if_protected([row, *nodes])
            if final_backup:
                refuse_full_backup(session, site, row)

        refused = _refusals(refuse)
        jobs = {job.id: job for job in unfinished_jobs(session, cluster_id=row.id)}
        for node in nodes:
            jobs |= {job.id: job for job in unfinished_jobs(session, instance_id=node.id)}
        return DeletePlan(
            noun="cluster",
            id=row.id,
            name=row.name,
            allowed=not refused,
            refused=refused,
            protected=row.protected,
            nodes=[node.node or node.name for node in nodes],
            backups=[],
            jobs=_cancelled([] if final_backup else list(jobs.values())),
            final_backup=final_backup,
            **_data_of(nodes),
            **_kept(_restorable(session, Backup.cluster_id == row.id)),
        )


def plan_delete_backup(site: Site, project: str, backup: str, *, cascade: bool, at_once: bool = False) -> DeletePlan:
    """What `discard_backup`, or with ``at_once`` `request_delete_backup`, would do. Raises NotFound, Conflict."""
    with site.catalog.read() as session:
        row = find_backup(session, project, backup)
        deleted = [*(descendants_of(session, row.id) if cascade else []), row]
        refused = _refusals(lambda: refuse_deletion(session, row, cascade=cascade, at_once=at_once))
        waits = not at_once and waits_for_sweep(site, deleted)
        gone = {link.id for link in deleted}
        kept = [link for link in _of_same(session, row) if link.id not in gone]
        return DeletePlan(
            noun="backup",
            id=row.id,
            name=row.name,
            allowed=not refused,
            refused=refused,
            protected=row.protected,
            adopted=False,
            bytes=sum(link.stored_size or 0 for link in deleted),
            old_bytes=0,
            nodes=[],
            backups=[_deleted(link) for link in deleted],
            sweep_at=format_second(now() + grace_of(site)) if waits else None,
            jobs=[],
            **_kept(kept),
        )


def _of_same(session: Session, backup: Backup) -> list[Backup]:
    """The restorable backups of the same cluster or instance; none if that is unknown, as for imported backups."""
    if backup.cluster_id is not None:
        return _restorable(session, Backup.cluster_id == backup.cluster_id)
    return _restorable(session, Backup.instance_id == backup.instance_id) if backup.instance_id is not None else []


def _restorable(session: Session, which: object) -> list[Backup]:
    """The restorable backups that ``which`` chooses, newest first."""
    query = select(Backup).where(which, Backup.deleted.is_(None), Backup.trashed.is_(False), Backup.status.in_(Backup.RESTORABLE))  # type: ignore[arg-type]
    found = list(session.scalars(query.order_by(Backup.created.desc(), Backup.id.desc())))
    broken = broken_chains(session, found)
    return [row for row in found if row.id not in broken]


def _kept(backups: Sequence[Backup]) -> dict[str, object]:
    verified = next((row for row in backups if row.verified and row.verified["ok"]), None)
    return {
        "kept": len(backups),
        "newest": _kept_backup(backups[0]) if backups else None,
        "newest_verified": _kept_backup(verified) if verified else None,
    }


def _kept_backup(row: Backup) -> KeptBackup:
    verified = row.verified["at"].replace("+00:00", "Z") if row.verified and row.verified["ok"] else None
    return KeptBackup(id=row.id, name=row.name, created=row.created.isoformat()[:19], verified=verified)


def _deleted(row: Backup) -> DeletedBackup:
    return DeletedBackup(
        id=row.id,
        name=row.name,
        kind=row.kind,
        instance_name=row.instance_name,
        created=row.created.isoformat()[:19],
        stored_size=row.stored_size,
    )


def _data_of(instances: Sequence[Instance]) -> dict[str, object]:
    adopted = any(row.is_adopted for row in instances)
    return {
        "adopted": adopted,
        "bytes": 0 if adopted else sum(row.data_bytes for row in instances),
        "old_bytes": 0 if adopted else sum(old["bytes"] for row in instances for old in row.old_data),
    }


def _cancelled(jobs: Sequence[Job]) -> list[CancelledJob]:
    return [CancelledJob(id=job.id, kind=job.kind) for job in jobs if job.kind not in ("delete_instance", "cluster_delete")]


def _refusals(check: Callable[[], object]) -> list[Refusal]:
    """Why ``check`` refuses the deletion; empty if it does not."""
    try:
        check()
    except StrongroomError as error:
        return [Refusal(message=error.message, remedy=error.remedy)]
    return []
