"""How the artifact of a backup job ends: recorded when its manifest is in the store, removed when it is not.

A valid manifest makes an artifact a backup. From then on nothing here deletes it, whatever failed around it.
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
from strongroom.catalog import Backup, Job
from strongroom.catalog.find import find_job
from strongroom.errors import ArtifactMissing, HostSilent, ManifestInvalid, StorageDenied, StorageError, StorageFull
from strongroom.flows import outcomes
from strongroom.flows.backups.seals import seal_backup
from strongroom.flows.backups.sources import location_of
from strongroom.flows.site import Site
from strongroom.storage import Store

log = structlog.get_logger()

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds between two tries while the store is away; the pause doubles up to this."""
SHORTEST_WAIT = 120.0
"""Seconds for which a store may be away, whatever its settings are."""
_HOPELESS = (StorageDenied, StorageFull)
"""Errors of a store that answers: another try changes nothing."""


async def record(site: Site, job_id: str) -> None:
    """Read the manifest back from the store and only then call the backup COMPLETED.

    Tried again while the store is away, as long as its settings let one call take. Then the job fails and the artifact stays:
    ``finish_left`` decides later.
    """
    pause = FIRST_PAUSE
    until = time.monotonic() + max(SHORTEST_WAIT, site.settings.storage.patience)
    while True:
        try:
            await asyncio.to_thread(_record, site, job_id)
            return
        except _HOPELESS:
            raise
        except StorageError as error:
            log.warning("the store does not answer; the backup is recorded later", job=job_id, reason=error.message)
            if await asyncio.to_thread(_tell_waiting, site, job_id, error) or time.monotonic() >= until:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _record(site: Site, job_id: str) -> None:
    backup, store = _find(site, job_id)
    if backup.status != "COMPLETED":
        _complete(site, job_id, store, *read_manifest(store, location_of(backup)))


def _complete(site: Site, job_id: str, store: Store, manifest: Manifest, sha256: str) -> bool:
    """False when somebody has asked meanwhile for the deletion of the backup."""
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
    if warning := seal_backup(site, store, manifest.location, sha256):
        with site.catalog.write() as session:
            job = find_job(session, None, job_id)
            job.output = {**job.output, "warnings": [*job.output.get("warnings", []), warning]}
    return True


def _require_own(backup: Backup, manifest: Manifest) -> None:
    """Raise ManifestInvalid when what is in the store is of another project or instance: somebody else has put it there."""
    if (manifest.project, manifest.instance_id or "") != (backup.project, backup.instance_id or ""):
        raise ManifestInvalid(
            f"the manifest of backup {backup.id} is of instance {manifest.instance_id} of project {manifest.project}",
            remedy="Somebody has exchanged it in the store. Take another backup, and find out who can write there.",
        )


def _is_wanted(backup: Backup) -> bool:
    return backup.deleted is None and backup.status not in ("DELETING", "DELETE_FAILED")


def _tell_waiting(site: Site, job_id: str, error: StorageError) -> bool:
    """Show in the job that it waits; true when somebody cancelled it."""
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        message = f"waiting for the store: {error.message}"
        if job.message != message:
            job.message = message
            job.events += 1
        return job.cancel


async def clean(site: Site, job_id: str) -> bool:
    """After a failed backup job: finish the backup when its manifest is in the store, else remove what is there.

    True when the backup is whole. What cannot be decided or removed now is noted in the job's output, for ``finish_left``.
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
    except ManifestInvalid:  # a manifest is written whole: a later version wrote this one, or it was damaged since; people decide
        if wanted:
            raise
    if found is not None and wanted:
        log.info("a backup is whole although its job failed", job=job_id, backup=backup.id)
        return _complete(site, job_id, store, *found)
    with site.catalog.read() as session:
        job = find_job(session, None, job_id)
    if wanted and "left" not in job.output and "manifest" in job.output:  # a store may show it late
        raise StorageError(f"the store does not show the manifest of backup {backup.id}, which its worker has written")
    if wanted and ("left" in job.output or _may_be_whole(job)):
        require_container(store, location_of(backup))
    _require_writer_over(site, job)
    delete_artifact(store, location_of(backup))
    return False


def _require_writer_over(site: Site, job: Job) -> None:
    """Raise HostSilent while the host of the job does not answer: its worker may still write. It is cancelled on its return."""
    cause = site.agents.presence.cause(job.host) if job.host else None
    if cause is not None:
        raise HostSilent(
            f"the worker of job {job.id} may still write: {cause.message}",
            remedy=f"What it wrote is removed when host {job.host} is back, or was removed.",
        )


def _may_be_whole(job: Job) -> bool:
    """Whether a worker may have written the manifest. The last one wrote nothing if it was still in its checks."""
    return job.attempts > 1 or (job.attempts == 1 and job.phase != "check")


def finish_left(site: Site, job_id: str) -> bool:
    """Decide later what ``clean`` could not. True when the backup is whole after all. Raises StorageError, ManifestInvalid."""
    backup, store = _find(site, job_id)
    whole = _finish_or_remove(site, job_id, backup, store)
    with site.catalog.write() as session:
        job: Job = find_job(session, None, job_id)
        job.output = {key: value for key, value in job.output.items() if key != "left"}
    return whole


def _find(site: Site, job_id: str) -> tuple[Backup, Store]:
    with site.catalog.read() as session:
        job = find_job(session, None, job_id)
        backup = session.get(Backup, job.backup_id) if job.backup_id else None
        assert backup is not None
        return backup, site.stores.holding(backup)
