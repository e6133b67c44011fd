"""The record of backups that were removed."""

from __future__ import annotations

from sqlalchemy import delete
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Expiration, Hold, Removal, now


def record_removal(session: Session, backup: Backup, asked_by: str) -> None:
    """Write down why the backup was removed. Its mark and a hold that has ended go with it."""
    mark = session.get(Expiration, backup.id)
    removal = Removal(
        backup_id=backup.id,
        project=backup.project,
        database_id=backup.cluster_id or backup.instance_id or "",
        name=backup.name,
        instance_name=backup.instance_name,
        kind=backup.kind,
        stored_size=backup.stored_size,
        created=backup.created,
        removed=now(),
        reason="deleted at once",
        asked_by=asked_by,
    )
    if mark is not None:
        removal.marked, removal.reason = mark.marked, mark.reason
        removal.policy, removal.policy_changed_by = mark.policy, mark.policy_changed_by
        removal.asked_by = asked_by or mark.asked_by or mark.confirmed_by or ""
        session.delete(mark)
    session.execute(delete(Hold).where(Hold.backup_id == backup.id))
    session.merge(removal)
