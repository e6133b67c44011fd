"""Deletes old runs."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, exists, or_, select

from strongroom.catalog import Backup, PolicyRun
from strongroom.flows.site import Site

KEEP = timedelta(days=400)
"""How long a run without an existing backup is kept. Retention needs the due times of runs whose backups exist."""
BATCH = 500


def forget_runs(site: Site, at: datetime) -> int:
    """Delete runs that ended long ago and have no existing backup; returns how many."""
    has_backup = exists().where(Backup.id == PolicyRun.backup_id, Backup.deleted.is_(None))
    old = select(PolicyRun.id).where(PolicyRun.finished < at - KEEP, or_(PolicyRun.backup_id.is_(None), ~has_backup))
    count = 0
    while True:
        with site.catalog.read() as session:
            ids = list(session.scalars(old.limit(BATCH)))
        if not ids:
            return count
        with site.catalog.write() as session:
            session.execute(delete(PolicyRun).where(PolicyRun.id.in_(ids)))
        count += len(ids)
