"""Marks: a backup that a user deleted, or that no rule keeps, is marked, and swept after the grace period.

A marked backup is still in the store: it can be restored, verified and unmarked, but no new incremental is based on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, delete, select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Expiration, now
from strongroom.catalog.find import ancestors_of, find_backup
from strongroom.errors import Busy, Conflict
from strongroom.flows.site import Site

_PER_STATEMENT = 1000
_MARKS = select(Expiration).where(Expiration.backup_id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True, slots=True)
class Cause:
    """Why backups are marked, and who is responsible."""

    reason: str
    by_person: bool
    asked_by: str = ""
    policy: str = ""
    policy_changed_by: str = ""


def mark(session: Session, backups: Sequence[Backup], cause: Cause, *, wait: timedelta, served: int) -> None:
    """Mark the backups, to be swept after ``wait``. A deletion replaces a mark of retention; any other mark stays as it is."""
    known = find_marks(session, [backup.id for backup in backups])
    at = now()
    for backup in backups:
        old = known.get(backup.id)
        if old is not None and (old.by_person or not cause.by_person):
            continue
        session.merge(
            Expiration(
                backup_id=backup.id,
                database_id=database_of(backup),
                by_person=cause.by_person,
                reason=cause.reason,
                asked_by=cause.asked_by,
                policy=cause.policy,
                policy_changed_by=cause.policy_changed_by,
                marked=at,
                sweep_at=at + wait,
                served=served,
            )
        )
        backup.trashed = cause.by_person
        backup.updated = at


def unmark(session: Session, backups: Sequence[Backup]) -> list[Backup]:
    """Remove the marks of the backups. Returns those that had one."""
    known = find_marks(session, [backup.id for backup in backups])
    for ids in _in_parts(list(known)):
        session.execute(delete(Expiration).where(Expiration.backup_id.in_(ids)))
    marked = [backup for backup in backups if backup.id in known]
    for backup in marked:
        backup.trashed = False
        backup.updated = now()
    return marked


def find_marks(session: Session, ids: Sequence[str]) -> dict[str, Expiration]:
    """The marks of these backups, by id."""
    found: dict[str, Expiration] = {}
    for part in _in_parts(ids):
        found |= {row.backup_id: row for row in session.scalars(_MARKS, {"ids": part})}
    return found


def undelete_backup(site: Site, project: str, backup: str) -> list[Backup]:
    """Undo the deletion of a backup and its ancestors, and return them. Decided in one transaction.

    Raises NotFound; Busy if the sweep has begun; Conflict if it is not deleted, or if no rule of its policy keeps it.
    """
    with site.catalog.write() as session:
        row = _find_deleted(session, project, backup)
        chain = [row, *ancestors_of(session, row)]
        for link in chain:
            if link.status in ("DELETING", "DELETE_FAILED"):
                raise Busy(f"backup {link.name} ({link.id}) is being removed; it is too late to undelete {row.name}")
        found = find_marks(session, [row.id]).get(row.id)
        if found is None:
            raise Conflict(f"backup {row.name} ({row.id}) is not deleted", remedy="There is nothing to do.")
        if not found.by_person:
            raise Conflict(
                f"backup {row.name} ({row.id}) expired under policy {found.policy} and would expire again",
                remedy=f"Keep it: `strongroom backup hold {row.id} --reason WHY`.",
            )
        return unmark(session, chain)


def _find_deleted(session: Session, project: str, ref: str) -> Backup:
    """The deleted backup with this name, which may be used again, or the one with this id or name. Raises NotFound, Conflict."""
    named = select(Backup).where(Backup.project == project, Backup.name == ref, Backup.deleted.is_(None), Backup.trashed)
    found = session.scalars(named.limit(2)).all()
    return found[0] if len(found) == 1 else find_backup(session, project, ref)


def database_of(backup: Backup) -> str:
    """The id of the cluster or instance of the backup; empty for an imported backup."""
    return backup.cluster_id or backup.instance_id or ""


def grace_of(site: Site) -> timedelta:
    """The time between a mark and its sweep."""
    return timedelta(seconds=site.settings.retention.grace)


def _in_parts(ids: Sequence[str]) -> list[Sequence[str]]:
    return [ids[at : at + _PER_STATEMENT] for at in range(0, len(ids), _PER_STATEMENT)]
