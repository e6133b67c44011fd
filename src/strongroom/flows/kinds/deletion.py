"""Delete a backup, and those that depend on it, from the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from sqlalchemy.orm import Session

from strongroom.artifact import delete_artifact, require_container
from strongroom.catalog import Backup, Job
from strongroom.catalog.find import (
    children_of,
    descendants_of,
    find_backup,
    find_job,
    unfinished_jobs,
)
from strongroom.errors import Busy, HasChildren, NotFound
from strongroom.flows.backups.sources import location_of
from strongroom.flows.jobs import new_job
from strongroom.flows.kind import Failure, JobKind
from strongroom.flows.outcomes import settle_deletion
from strongroom.flows.records import refuse_if_protected
from strongroom.flows.retention.clocks import read_served
from strongroom.flows.retention.holds import refuse_if_held
from strongroom.flows.retention.marks import Cause, grace_of, mark, unmark
from strongroom.flows.site import Site
from strongroom.flows.status import move_backup, move_backups
from strongroom.flows.steps import backup_of, load_job
from strongroom.identity import asker
from strongroom.storage import Store


async def delete_stored(site: Site, job_id: str) -> None:
    """Delete all objects of the backup and of the backups that are deleted with it, children first.

    The objects of imported and registered backups are kept. Raises HasChildren while another backup depends on one of them,
    StorageError while the store does not show their container: what it does not show was not deleted.
    """

    def remove() -> None:
        job, _, backup = load_job(site, job_id)
        assert backup is not None
        with site.catalog.read() as session:
            chain = [*descendants_of(session, backup.id), backup]
            refuse_if_protected(chain)
            refuse_if_held(session, chain)
        for link in chain:
            if link.status != "DELETING":
                raise HasChildren(
                    f"backup {backup.name} ({backup.id}) is still the parent of {link.name} ({link.id})",
                    remedy="Delete that one first.",
                )
        for link in chain:
            if link.source is None:
                store = site.stores.holding(link)
                _require_shown(site, job_id, store, link)
                delete_artifact(store, location_of(link))
            if link.id != backup.id:  # the job's own backup is settled with the job
                with site.catalog.write() as session:
                    row = session.get(Backup, link.id)
                    assert row is not None
                    settle_deletion(session, row, None, job.asked_by)

    await asyncio.to_thread(remove)


def _require_shown(site: Site, job_id: str, store: Store, backup: Backup) -> None:
    """Raise StorageError if the store shows nothing in the container of a backup that was complete.

    The job notes what it removes: when it runs again after a crash, it may have emptied the container itself.
    """
    with site.catalog.read() as session:
        if find_job(session, None, job_id).output.get("removing") == backup.id:
            return
    is_failed = backup.manifest_sha256 is None and backup.fault is not None
    if not is_failed:  # a failed one may have left nothing
        require_container(store, location_of(backup))
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        job.output = {**job.output, "removing": backup.id}


def _settle(session: Session, job: Job, failure: Failure | None) -> None:
    backup = backup_of(session, job)
    links = [link for link in (*descendants_of(session, backup.id), backup) if link.status == "DELETING"]
    if failure is not None and failure["code"] == "Cancelled" and job.started is None:  # in the queue: nothing was removed
        whole = [link for link in links if link.fault is None]  # others were to be deleted before, and may be removed in part
        unmark(session, whole)
        for link in whole:
            move_backup(link, "COMPLETED" if link.source is None else "RESTORED")
        links = [link for link in links if link not in whole]
    for link in links:
        settle_deletion(session, link, failure, job.asked_by)


def discard_backup(site: Site, project: str, backup: str, *, cascade: bool = False) -> Job | None:
    """Delete a backup, with ``cascade`` also all that depend on it: they are marked, and removed when the grace period has ended.

    Returns the job when they are deleted at once: where there is no grace period, or nothing that could be restored.
    Raises NotFound, HasChildren, Protected, Busy.
    """
    with site.catalog.write() as session:
        row = find_backup(session, project, backup)
        if row.trashed:
            raise NotFound(
                f"backup {row.name} ({row.id}) is deleted already; it is removed from the store later",
                remedy="Remove it now with --now, or take the deletion back: `strongroom backup undelete`.",
            )
        chain = refuse_deletion(session, row, cascade=cascade)
        if waits_for_sweep(site, chain):
            who = asker.get()[:255]
            cause = Cause(f"deleted by {who}" if who else "deleted", by_person=True, asked_by=who)
            mark(session, chain, cause, wait=grace_of(site), served=read_served(session))
            return None
        job = begin_deletion(session, row, chain)
    site.start(job)
    return job


def request_delete_backup(site: Site, project: str, backup: str, *, cascade: bool = False) -> Job:
    """Delete a backup at once, with ``cascade`` also all that depend on it (children first, in one job).

    Raises NotFound, HasChildren, Protected, Busy.
    """
    with site.catalog.write() as session:
        row = find_backup(session, project, backup)
        job = begin_deletion(session, row, refuse_deletion(session, row, cascade=cascade, at_once=True))
    site.start(job)
    return job


def begin_deletion(session: Session, backup: Backup, chain: Sequence[Backup]) -> Job:
    """The job that deletes the backup. From this transaction on nobody can read, hold or unmark the backups of ``chain``."""
    move_backups(session, chain, "DELETING")
    return new_job(session, backup.project, "delete_backup", backup=backup, partition=backup.chain_id)


def waits_for_sweep(site: Site, backups: Sequence[Backup]) -> bool:
    """Whether the backups are only marked: something of them can be restored, and the sweep can reach their store."""
    restorable = any(backup.status in Backup.RESTORABLE for backup in backups)
    return restorable and site.settings.retention.grace > 0 and not site.settings.storage.by_token


def refuse_deletion(session: Session, backup: Backup, *, cascade: bool, at_once: bool = False) -> list[Backup]:
    """What a deletion of the backup deletes, children before parents. Raises HasChildren, Protected, Busy.

    Children that are deleted already, and wait for the sweep, only stop a deletion ``at_once``.
    """
    children = [child for child in children_of(session, backup.id) if at_once or not child.trashed]
    if not cascade and children:
        names = ", ".join(f"{c.name} ({c.id})" for c in children[:10])
        more = f" and {len(children) - 10} more" if len(children) > 10 else ""
        raise HasChildren(
            f"backup {backup.name} ({backup.id}) is the parent of {names}{more}",
            remedy="Delete those first, or delete all of them with --cascade.",
        )
    chain = [*descendants_of(session, backup.id), backup]
    refuse_if_protected(chain)
    refuse_if_held(session, chain)
    _refuse_if_used(session, chain)
    return chain


def _refuse_if_used(session: Session, chain: Sequence[Backup]) -> None:
    """Raise Busy if one of the backups is being written, read or deleted."""
    for backup in chain:
        if backup.status in Backup.RUNNING:
            raise Busy(
                f"Backup {backup.name} ({backup.id}) cannot be deleted because it is running.",
                remedy="Wait until it is done, or cancel its job.",
            )
        if backup.status == "DELETING":
            raise Busy(f"backup {backup.name} ({backup.id}) is already being deleted", remedy="Wait until that is done.")
    used = {backup.id: backup for backup in chain}
    for job in unfinished_jobs(session):
        if job.backup_id in used:
            backup = used[job.backup_id]
            raise Busy(
                f"backup {backup.name} ({backup.id}) is in use by {job.kind} job {job.id}",
                remedy="Wait for the job, or cancel it.",
            )


DELETE_BACKUP = JobKind(
    name="delete_backup", operation="delete backup {backup}", steps=(delete_stored,), lane="stores", settle=_settle
)
