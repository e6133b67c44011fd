"""Requests about backups: take, verify, delete. Each checks everything in one transaction, then starts a job."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom import datastores
from strongroom.artifact import Positions
from strongroom.catalog import Backup, Instance, Job, quotas
from strongroom.catalog.find import (
    chain_of,
    children_of,
    container_for,
    descendants_of,
    find_backup,
    find_instance,
    unfinished_jobs,
)
from strongroom.errors import Busy, Conflict, HasChildren, InvalidRequest, LineageChanged, Unsupported
from strongroom.flows.backups.sources import require_source, source_of
from strongroom.flows.hosts.placement import reader_of
from strongroom.flows.jobs import new_job, refuse_if_busy, refuse_if_node
from strongroom.flows.records import refuse_if_protected
from strongroom.flows.site import Site
from strongroom.flows.status import move_backups
from strongroom.sections import CONTAINER_PATTERN
from strongroom.worker.spec import TOOK_FULL


def check_name(name: str, noun: str) -> None:
    """Trove's rule: 1 to 255 characters, one of them a letter or digit. Raises InvalidRequest."""
    if not 1 <= len(name) <= 255 or not any(c.isalnum() for c in name):
        raise InvalidRequest(
            f"the name of the {noun} has {len(name)} characters; it must have 1 to 255, with at least one letter or digit"
        )
    if any(ord(c) < 32 or ord(c) == 127 for c in name):
        raise InvalidRequest(f"the name of the {noun} has control characters in it")


def check_container(name: str) -> None:
    """Raise InvalidRequest when ``name`` cannot be a container."""
    if not re.fullmatch(CONTAINER_PATTERN, name):
        raise InvalidRequest(
            f"The value is not allowed: {name!r} cannot be the name of a container",
            remedy="Use 1 to 255 letters, digits and @%_+=:,.- and begin with a letter or digit.",
        )


def request_backup(
    site: Site,
    project: str,
    *,
    instance: str,
    name: str,
    description: str | None = None,
    container: str | None = None,
    parent: str | None = None,
    incremental: bool = False,
    codec: str | None = None,
    damaged_pages: Literal["fail", "warn"] = "warn",
) -> tuple[Backup, Job]:
    """Take a backup. ``parent`` makes it an incremental on that backup; ``incremental`` alone finds the parent, or takes a full.

    Raises NotFound, InvalidRequest, Conflict, LineageChanged, Busy, QuotaExceeded, Unsupported.
    """
    check_name(name, "backup")
    if container is not None:
        check_container(container)
    with site.catalog.write() as session:
        row = find_instance(session, project, instance)
        refuse_if_busy(session, row, "take a backup")
        refuse_if_node(row, "backup")
        if row.task is not None:
            raise Busy(f"instance {row.name} ({row.id}) is in {row.task}; cannot take a backup now")
        if row.state != "running":
            raise Busy(
                f"instance {row.name} ({row.id}) is {row.state}; a backup needs a running server",
                remedy=f"Start it (`strongroom instance start {row.name}`). {row.detail}".strip(),
            )
        quotas.require(session, project, site.settings, {"backups": 1})
        reason = None
        base: Backup | None = None
        chains = datastores.get(row.datastore).capabilities.incremental
        if parent is not None and not chains:
            raise Unsupported(
                f"incremental backups of {row.datastore} are not supported", remedy="Leave the parent out, and a full is taken."
            )
        if parent is not None:
            base = _named_parent(session, project, row, parent)
        elif incremental and not chains:
            reason = f"a full was taken: incremental backups of {row.datastore} are not supported"
        elif incremental:
            base, reason = newest_parent(session, row)
        backup = new_backup(
            session, site, row, base, name=name, description=description, container=container, codec=codec, reason=reason
        )
        job = new_job(
            session,
            project,
            "backup",
            instance=row,
            backup=backup,
            fall_back_to_full=parent is None,
            damaged_pages=damaged_pages,
        )
    site.start(job)
    return backup, job


def new_backup(
    session: Session,
    site: Site,
    instance: Instance,
    base: Backup | None,
    *,
    name: str,
    description: str | None,
    container: str | None,
    codec: str | None = None,
    reason: str | None,
) -> Backup:
    """Add a backup of the instance that is asked for: an incremental on ``base``, or a full."""
    key = str(uuid.uuid4())
    backup = Backup(
        id=key,
        project=instance.project,
        name=name,
        description=description,
        cluster_id=instance.cluster_id,
        instance_id=instance.id,
        instance_name=instance.name,
        container=container_for(session, instance.project, instance.id, container, site.settings.storage.container),
        kind="incremental" if base else "full",
        parent_id=base.id if base else None,
        chain_id=base.chain_id if base else key,
        datastore=instance.datastore,
        series=instance.series,
        codec=codec or site.settings.artifact.codec,
        encrypted=bool(site.settings.encryption.recipients),
        lineage=instance.lineage,
        reason=reason,
    )
    session.add(backup)
    return backup


def _named_parent(session: Session, project: str, instance: Instance, ref: str) -> Backup:
    base = find_backup(session, project, ref)
    full = "Take a full backup instead, or name another parent."
    if base.instance_id != instance.id:
        raise InvalidRequest(
            f"parent backup {base.name} ({base.id}) is of instance {base.instance_id}, not of {instance.name} ({instance.id})",
            remedy=full,
        )
    if base.status != "COMPLETED":
        raise Conflict(f"parent backup {base.name} ({base.id}) is {base.status}, not COMPLETED", remedy=full)
    for link in chain_of(session, base):
        if link.status != "COMPLETED":
            raise Conflict(f"the chain of {base.name} is broken: backup {link.id} is {link.status}", remedy=full)
        if link.is_damaged:
            raise Conflict(f"{_describe_damage(link)}; an incremental on it could not be restored", remedy=full)
    if instance.lineage is not None and base.lineage is not None and base.lineage != instance.lineage:
        raise LineageChanged(
            f"the data of instance {instance.name} was replaced (a restore, or a state transfer) after backup {base.name} "
            f"({base.id}) was taken; an incremental on it would lose rows",
            remedy=full,
        )
    return base


def newest_parent(session: Session, instance: Instance) -> tuple[Backup | None, str | None]:
    """The newest usable backup of the instance, or none and the reason."""
    completed = _newest_first(
        session.scalars(
            select(Backup).where(Backup.instance_id == instance.id, Backup.deleted.is_(None), Backup.status == "COMPLETED")
        ).all()
    )
    if not completed:
        return None, "a full was taken: the instance has no completed backup to stand on"
    fitting = _without_refused([b for b in completed if instance.lineage is None or b.lineage in (None, instance.lineage)])
    for backup in fitting:
        try:
            chain = chain_of(session, backup)
        except InvalidRequest:
            continue
        if any(link.status != "COMPLETED" for link in chain):
            continue
        damaged = next((link for link in chain if link.is_damaged), None)
        return (backup, None) if damaged is None else (None, f"a full was taken: {_describe_damage(damaged)}")
    if fitting:
        return None, "a full was taken: every chain of the instance has lost a part"
    return None, "a full was taken: the data of the instance was replaced since its last backup"


def _without_refused(backups: Sequence[Backup]) -> list[Backup]:
    """Without what is older than the newest full that was taken because an older parent could not be used.

    After a rollback of the server, or a reset of its log, the position of older backups may be ahead of all new ones. Each
    incremental would choose one of them, and become a full.
    """
    fulls = [b for b in backups if b.kind == "full" and (b.reason or "").startswith(TOOK_FULL)]
    if not fulls:
        return list(backups)
    newest = max(fulls, key=lambda b: b.created)
    return [b for b in backups if b.chain_id == newest.id or b.created > newest.created]


def _describe_damage(backup: Backup) -> str:
    assert backup.verified is not None
    return f"a verification found backup {backup.name} ({backup.id}) damaged: {backup.verified['message']}"


def _newest_first(backups: Sequence[Backup]) -> list[Backup]:
    """Newest is where the history of the server is farthest, then the child of the other: clocks go back, these do not."""
    depths = _count_ancestors(backups)
    return sorted(
        backups, key=lambda b: (Positions.model_validate(b.positions or {}).reached, depths[b.id], b.created), reverse=True
    )


def _count_ancestors(backups: Sequence[Backup]) -> dict[str, int]:
    """How many of ``backups`` each of them depends on."""
    parents = {backup.id: backup.parent_id for backup in backups}
    depths: dict[str, int] = {}
    for backup in backups:
        path: list[str] = []
        at: str | None = backup.id
        while at in parents and at not in depths and at not in path[-1:]:
            path.append(at)
            at = parents[at]
            if len(path) > len(parents):
                break  # a circle: the chain is refused elsewhere
        depth = depths.get(at or "", -1)
        for link in reversed(path):
            depth += 1
            depths[link] = depth
    return depths


def request_verify(
    site: Site,
    project: str,
    backup: str,
    *,
    prepare: bool = False,
    start: bool = True,
    chain: bool = True,
    quick: bool = False,
) -> Job:
    """Read and check a backup and, with ``chain``, all that it is based on; with ``prepare`` also restore it into scratch space,
    and with ``start`` start it there. ``quick`` only compares the sizes of all objects.

    Raises NotFound, Conflict, InvalidRequest.
    """
    if quick and prepare:
        raise InvalidRequest("a quick verification restores nothing", remedy="Leave out quick, or prepare.")
    require_source(site, project, backup)
    with site.catalog.write() as session:
        row = find_backup(session, project, backup)
        refuse_unless_restorable(session, row)
        if quick and source_of(row).foreign:
            raise InvalidRequest(
                f"backup {row.name} ({row.id}) was imported; the sizes of its objects prove nothing",
                remedy="Verify it without quick.",
            )
        job = new_job(session, project, "verify", backup=row, prepare=prepare, start=start, chain=chain, quick=quick)
        job.host = reader_of(session, site, row)
    site.start(job)
    return job


def refuse_unless_restorable(session: Session, backup: Backup) -> None:
    """Raise Conflict unless the backup and all that it stands on are COMPLETED, or records of what others wrote."""
    for link in chain_of(session, backup):
        if link.status not in Backup.RESTORABLE:
            which = "backup" if link.id == backup.id else f"backup {backup.name} stands on backup"
            raise Conflict(
                f"{which} {link.name} ({link.id}) is {link.status}, not COMPLETED",
                remedy="Choose a completed backup (`strongroom backup list`).",
            )


def request_delete_backup(site: Site, project: str, backup: str, *, cascade: bool = False) -> Job:
    """Delete a backup, with ``cascade`` also all that depend on it (children first, in one job).

    Raises NotFound, HasChildren, Protected, Busy.
    """
    with site.catalog.write() as session:
        row = find_backup(session, project, backup)
        chain = refuse_deletion(session, row, cascade=cascade)
        move_backups(session, chain, "DELETING")
        job = new_job(session, project, "delete_backup", backup=row, partition=row.chain_id)
    site.start(job)
    return job


def refuse_deletion(session: Session, backup: Backup, *, cascade: bool) -> list[Backup]:
    """What a deletion of the backup deletes, children before parents. Raises HasChildren, Protected, Busy."""
    if not cascade and (children := children_of(session, backup.id)):
        names = ", ".join(f"{c.name} ({c.id})" for c in children[:10])
        more = f" and {len(children) - 10} more" if len(children) > 10 else ""
        raise HasChildren(
            f"backup {backup.name} ({backup.id}) is the parent of {names}{more}",
            remedy="Delete those first, or all of them together with --cascade.",
        )
    chain = [*descendants_of(session, backup.id), backup]
    refuse_if_protected(chain)
    _refuse_if_used(session, chain)
    return chain


def _refuse_if_used(session: Session, chain: Sequence[Backup]) -> None:
    """Raise Busy when one of the backups is being written, read or deleted."""
    for backup in chain:
        if backup.status in Backup.RUNNING:
            raise Busy(
                f"Backup {backup.name} ({backup.id}) cannot be deleted because it is running.",
                remedy="Wait until it is done, or cancel its job.",
            )
        if backup.status == "DELETING":
            raise Busy(f"backup {backup.name} ({backup.id}) is being deleted already", remedy="Wait until that is done.")
    used = {backup.id: backup for backup in chain}
    for job in unfinished_jobs(session):
        if job.backup_id in used:
            backup = used[job.backup_id]
            raise Busy(
                f"backup {backup.name} ({backup.id}) is in use by {job.kind} job {job.id}",
                remedy="Wait for the job, or cancel it.",
            )
