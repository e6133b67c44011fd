"""The end of the artifact of a backup job: it is recorded if its manifest is in the store, otherwise it is removed.

A valid manifest makes an artifact a backup. After that, nothing here deletes it, even if the job fails.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from strongroom.artifact import (
    Manifest,
    artifact_url,
    delete_artifact,
    read_manifest,
    require_container,
    require_known_manifest,
)
from strongroom.catalog import Backup, Hold, Job
from strongroom.catalog.find import find_job
from strongroom.errors import ArtifactMissing, HostSilent, ManifestInvalid, StorageDenied, StorageError, StorageFull
from strongroom.flows import outcomes
from strongroom.flows.backups.labels import store_label
from strongroom.flows.backups.seals import seal_backup
from strongroom.flows.backups.sources import location_of
from strongroom.flows.site import Site
from strongroom.storage import Store

log = structlog.get_logger()

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds between two attempts while the store does not answer; the pause doubles up to this."""
SHORTEST_WAIT = 120.0
"""Minimum number of seconds for which a store may be unreachable, whatever its settings are."""
_PERMANENT = (StorageDenied, StorageFull)
"""Errors of a reachable store: a retry would not help."""


async def record(site: Site, job_id: str) -> None:
    """Read the manifest from the store, and only then set the backup to COMPLETED.

    While the store does not answer, this is retried for as long as the settings of the store allow one call to take. Then the
    job fails and the artifact is kept: ``finish_left`` decides later.
    """
    pause = FIRST_PAUSE
    until = time.monotonic() + max(SHORTEST_WAIT, site.settings.storage.patience)
    while True:
        try:
            await asyncio.to_thread(_record, site, job_id)
            return
        except _PERMANENT:
            raise
        except StorageError as error:
            log.warning("the store does not answer; the backup will be recorded later", job=job_id, reason=error.message)
            if await asyncio.to_thread(_show_waiting, site, job_id, error) or time.monotonic() >= until:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _record(site: Site, job_id: str) -> None:
    backup, store = _find(site, job_id)
    if backup.status != "COMPLETED":
        _complete(site, job_id, store, *read_manifest(store, location_of(backup)))


def _complete(site: Site, job_id: str, store: Store, manifest: Manifest, sha256: str) -> bool:
    """Record the backup as complete. False if a user has requested its deletion meanwhile."""
    url = artifact_url(store, manifest)
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        row = session.get(Backup, job.backup_id)
        assert row is not None
        if not _is_wanted(row):
            return False
        _require_own(row, manifest)
        require_known_manifest(manifest, sha256, job.output.get("manifest_sha256"))
        outcomes.complete_backup(row, manifest, sha256, url, job.output.get("reason") or row.reason)
        hold = session.get(Hold, row.id)
        is_changed = row.protected or row.name != manifest.name or hold is not None
    warnings = [seal_backup(site, store, manifest.location, sha256), _label_backup(store, row, hold) if is_changed else None]
    if any(warnings):
        with site.catalog.write() as session:
            job = find_job(session, None, job_id)
            job.output = {**job.output, "warnings": [*job.output.get("warnings", []), *filter(None, warnings)]}
    return True


def _label_backup(store: Store, backup: Backup, hold: Hold | None) -> str | None:
    """Store the label of a backup that was renamed, protected or held before it was complete. Returns why that failed."""
    try:
        store_label(store, backup, hold)
    except StorageError as error:
        log.warning("cannot store the label of a backup", backup=backup.id, reason=error.message)
        return f"its name, protection and hold are only in the catalog: {error.message}"
    return None


def _require_own(backup: Backup, manifest: Manifest) -> None:
    """Raise ManifestInvalid if the manifest in the store is of another project or instance: then it was replaced."""
    if (manifest.project, manifest.instance_id or "") != (backup.project, backup.instance_id or ""):
        raise ManifestInvalid(
            f"the manifest of backup {backup.id} belongs to instance {manifest.instance_id} of project {manifest.project}",
            remedy="It was replaced in the store. Take another backup, and find out who can write to the store.",
        )


def _is_wanted(backup: Backup) -> bool:
    return backup.deleted is None and backup.status not in ("DELETING", "DELETE_FAILED")


def _show_waiting(site: Site, job_id: str, error: StorageError) -> bool:
    """Show in the job that it waits; True if a user cancelled it."""
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        message = f"waiting for the store: {error.message}"
        if job.message != message:
            job.message = message
            job.events += 1
        return job.cancel


async def clean(site: Site, job_id: str) -> bool:
    """After a failed backup job: complete the backup if its manifest is in the store, otherwise remove its objects.

    True if the backup is complete. If that cannot be decided or done now, it is noted in the job's output, for ``finish_left``.
    """
    return await asyncio.to_thread(_clean, site, job_id)


def _clean(site: Site, job_id: str) -> bool:
    backup, store = _find(site, job_id)
    if backup.status == "COMPLETED":
        return True
    try:
        return _finish_or_remove(site, job_id, backup, store)
    except (StorageError, ManifestInvalid, HostSilent):
        location = location_of(backup)
        with site.catalog.write() as session:
            job = find_job(session, None, job_id)
            job.output = {**job.output, "left": f"{location.container}/{location.id}"}
        raise


def _finish_or_remove(site: Site, job_id: str, backup: Backup, store: Store) -> bool:
    wanted = _is_wanted(backup)
    found: tuple[Manifest, str] | None = None
    try:
        found = read_manifest(store, location_of(backup))
    except ArtifactMissing:
        pass
    except ManifestInvalid:  # a later version wrote it, or it was damaged later: a user has to decide
        if wanted:
            raise
    if found is not None and wanted:
        log.info("a backup is complete although its job failed", job=job_id, backup=backup.id)
        return _complete(site, job_id, store, *found)
    with site.catalog.read() as session:
        job = find_job(session, None, job_id)
    if wanted and "left" not in job.output and "manifest" in job.output:  # a store may show it late
        raise StorageError(f"the store does not show the manifest of backup {backup.id}, which its worker has written")
    if wanted and ("left" in job.output or _may_be_complete(job)):
        require_container(store, location_of(backup))
    _require_writer_over(site, job)
    delete_artifact(store, location_of(backup))
    return False


def _require_writer_over(site: Site, job: Job) -> None:
    """Raise HostSilent while the worker of the job may still write. It is cancelled when its host answers."""
    cause = site.agents.presence.may_write(job.host) if job.host else None
    if cause is not None:
        raise HostSilent(
            f"the worker of job {job.id} may still write: {cause.message}",
            remedy=f"Its objects are removed when host {job.host} is reachable again, or after the host was removed.",
        )


def _may_be_complete(job: Job) -> bool:
    """Whether a worker may have written the manifest. The only one wrote nothing if it was still in its checks."""
    return job.attempts > 1 or (job.attempts == 1 and job.phase != "check")


def finish_left(site: Site, job_id: str) -> bool:
    """Do later what ``clean`` could not. True if the backup is complete after all. Raises StorageError, ManifestInvalid."""
    backup, store = _find(site, job_id)
    is_complete = _finish_or_remove(site, job_id, backup, store)
    with site.catalog.write() as session:
        job: Job = find_job(session, None, job_id)
        job.output = {key: value for key, value in job.output.items() if key != "left"}
    return is_complete


def _find(site: Site, job_id: str) -> tuple[Backup, Store]:
    with site.catalog.read() as session:
        job = find_job(session, None, job_id)
        backup = session.get(Backup, job.backup_id) if job.backup_id else None
        assert backup is not None
        return backup, site.stores.holding(backup)
