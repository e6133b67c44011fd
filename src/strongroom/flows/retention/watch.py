"""Selects the databases that retention has to check, because something has changed or is due."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from strongroom.catalog import Attachment, Backup, Expiration, Hold, Policy
from strongroom.flows.retention.memory import Watch

EVERYTHING = timedelta(hours=6)
"""Interval at which all databases are checked, because holds end and failed backups expire without a change."""
_SLACK = timedelta(minutes=1)
"""Tolerance: rows contain the time at which their transaction began, which is before their commit."""
_DATABASE = func.coalesce(Backup.cluster_id, Backup.instance_id)


def list_databases(session: Session, watch: Watch, at: datetime) -> list[str]:
    """Ids of the databases to check now, among those with a policy or a marked backup."""
    marked = select(Expiration.database_id).where(Expiration.database_id != "")
    concerned = or_(Backup.project.in_(select(Attachment.project)), _DATABASE.in_(marked))
    existing = select(_DATABASE).where(Backup.deleted.is_(None), _DATABASE.is_not(None), concerned).distinct()
    if watch.everything is None or watch.checked is None or not watch.checked <= at <= watch.everything + EVERYTHING:
        return sorted(session.scalars(existing))
    since = watch.checked - _SLACK
    found = set(session.scalars(existing.where(Backup.updated >= since)))
    found |= set(session.scalars(marked.where(Expiration.sweep_at <= at).distinct()))
    held = select(Hold.backup_id).where(Hold.until.is_not(None), Hold.until >= since, Hold.until <= at)
    found |= set(session.scalars(existing.where(Backup.id.in_(held))))
    changed = set(session.scalars(select(Policy.project).where(Policy.updated >= since)))
    changed |= set(session.scalars(select(Attachment.project).where(Attachment.created >= since)))
    if changed:
        found |= set(session.scalars(existing.where(Backup.project.in_(changed))))
    return sorted(found)


def record_check(watch: Watch, at: datetime, *, everything: bool) -> None:
    """Remember that the databases were checked."""
    watch.checked = at
    if everything or watch.everything is None:
        watch.everything = at
