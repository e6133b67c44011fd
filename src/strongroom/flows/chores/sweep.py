"""Removes what failed backups of this service left in the stores, and completes or removes backups that their jobs left."""

from __future__ import annotations

from datetime import timedelta

import structlog
from sqlalchemy import or_, select

from strongroom.artifact import Location, sweep_orphans
from strongroom.catalog import Backup, Hold, Job
from strongroom.errors import StorageError, StrongroomError
from strongroom.flows.archives.retention import sweep_logs
from strongroom.flows.backups.artifact_end import finish_left
from strongroom.flows.backups.labels import store_label
from strongroom.flows.chores.chore import DAY, Chore
from strongroom.flows.site import Site

log = structlog.get_logger()

MIN_AGE = timedelta(hours=1)
"""Younger objects are kept: the row of their backup may not be visible yet."""


SOON = 60.0
"""Seconds until the next sweep if a host was not asked yet which workers it runs: what they may write is not removed."""


def _sweep(site: Site) -> float | None:
    """Sweep all stores. If stores are accessed with tokens of users, what is left there is only logged."""

    def is_needed(backup_id: str) -> bool:
        with site.catalog.read() as session:
            row = session.get(Backup, backup_id)
            if row is not None and row.status == "COMPLETED":  # no need to ask the store about each
                return True
            known = list(session.scalars(select(Job.host).where(Job.backup_id == backup_id, Job.kind == "backup")))
            hosts = known or site.agents.names  # the catalog may be older than the backup
            may_write = any(host and site.agents.presence.may_write(host) for host in hosts)
            return may_write or (row is not None and row.status in Backup.RUNNING)

    swept = 0
    owner = site.catalog.service_id
    for store in site.stores.all():
        try:
            swept += len(sweep_orphans(store, owner=owner, is_running=is_needed, older_than=MIN_AGE, report=_report_left))
        except StrongroomError as error:
            log.warning("could not sweep the store", error=error.code, reason=error.message)
    finish_failed(site)
    _store_labels(site)
    sweep_logs(site)
    log.info("swept the stores", orphans=swept)
    presence = site.agents.presence
    new = [host for host in site.agents.names if presence.may_write(host) and not presence.cause(host)]
    return SOON if new else None


def _store_labels(site: Site) -> None:
    """Store the protection and the holds of backups whose job for it failed, or that were running or of an earlier version."""
    if site.settings.storage.by_token:
        return
    with site.catalog.read() as session:
        own = (Backup.status == "COMPLETED", Backup.source.is_(None))
        kept = select(Backup, Hold).outerjoin(Hold, Hold.backup_id == Backup.id)
        rows = session.execute(kept.where(*own, or_(Backup.protected, Hold.backup_id.is_not(None)))).all()
    for row, hold in rows:
        try:
            store_label(site.stores.holding(row), row, hold)
        except StrongroomError as error:
            log.warning(
                "cannot store the protection and the hold of a backup", backup=row.id, error=error.code, reason=error.message
            )


def finish_failed(site: Site) -> None:
    """Finish what failed jobs left: a backup whose manifest is in the store is completed, anything else is removed."""
    for job_id, backup_id, project, left in _list_left(site):
        if site.settings.storage.by_token:
            log.warning(
                "a failed backup left objects in the store",
                backup=backup_id,
                project=project,
                objects=left,
                remedy=f"A user of the project can delete the backup: strongroom backup delete {backup_id}",
            )
            continue
        try:
            is_complete = finish_left(site, job_id)
        except StrongroomError as error:
            log.warning("could not finish a failed backup", backup=backup_id, error=error.code, reason=error.message)
        else:
            log.info("finished a failed backup", backup=backup_id, outcome="completed" if is_complete else "removed")


def _list_left(site: Site) -> list[tuple[str, str, str, str]]:
    """Failed backups that left something in the store: job, backup, project, location."""
    failed = select(Job.id, Backup.id, Backup.project, Job.output).join(Job, Job.backup_id == Backup.id)
    with site.catalog.read() as session:
        found = session.execute(failed.where(Backup.status == "FAILED", Backup.deleted.is_(None), Job.kind == "backup"))
        return [(job_id, backup_id, project, output["left"]) for job_id, backup_id, project, output in found if "left" in output]


def _report_left(location: Location, error: StorageError) -> None:
    log.warning(
        "cannot remove what a failed backup left in the store; it is skipped",
        at=location.prefix,
        error=error.code,
        reason=error.message,
        remedy=error.remedy,
    )


SWEEP = Chore(name="sweep", interval=DAY, run=_sweep)
