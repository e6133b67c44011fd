"""How the artifact of a backup job ends: recorded when its manifest is in the store, removed when it is not.

A valid manifest makes an artifact a backup. From then on nothing here deletes it, whatever failed around it.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from strongroom.artifact import Manifest, artifact_url, delete_artifact, read_manifest, require_known_manifest
from strongroom.catalog import Backup, Job
from strongroom.catalog.find import find_job
from strongroom.errors import ArtifactMissing, HostSilent, ManifestInvalid, StorageDenied, StorageError, StorageFull
from strongroom.flows import _outcomes
from strongroom.flows._control import Control
from strongroom.flows._seals import seal_backup
from strongroom.flows._source import location_of
from strongroom.storage import Store

log = structlog.get_logger()

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0
"""Seconds between two tries while the store is away; the pause doubles up to this."""
SHORTEST_WAIT = 120.0
"""Seconds for which a store may be away, whatever its settings are."""
_HOPELESS = (StorageDenied, StorageFull)
"""Errors of a store that answers: another try changes nothing."""


async def record(control: Control, job_id: str) -> None:
    """Read the manifest back from the store and only then call the backup COMPLETED.

    Tried again while the store is away, as long as its settings let one call take. Then the job fails and the artifact stays:
    ``finish_left`` decides later.
    """
    pause = FIRST_PAUSE
    until = time.monotonic() + max(SHORTEST_WAIT, control.settings.storage.patience)
    while True:
        try:
            await asyncio.to_thread(_record, control, job_id)
            return
        except _HOPELESS:
            raise
        except StorageError as error:
            log.warning("the store does not answer; the backup is recorded later", job=job_id, reason=error.message)
            if await asyncio.to_thread(_tell_waiting, control, job_id, error) or time.monotonic() >= until:
                raise
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _record(control: Control, job_id: str) -> None:
    backup, store = _find(control, job_id)
    if backup.status != "COMPLETED":
        _complete(control, job_id, store, *read_manifest(store, location_of(backup)))


def _complete(control: Control, job_id: str, store: Store, manifest: Manifest, sha256: str) -> bool:
    """False when somebody has asked meanwhile for the deletion of the backup."""
    url = artifact_url(store, manifest)
    with control.catalog.write() as session:
        job = find_job(session, None, job_id)
        row = session.get(Backup, job.backup_id)
        assert row is not None
        if not _is_wanted(row):
            return False
        _require_own(row, manifest)
        require_known_manifest(manifest, sha256, job.output.get("manifest_sha256"))
        _outcomes.complete_backup(row, manifest, sha256, url, job.output.get("reason") or row.reason)
    if warning := seal_backup(control, store, manifest.location, sha256):
        with control.catalog.write() as session:
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


def _tell_waiting(control: Control, job_id: str, error: StorageError) -> bool:
    """Show in the job that it waits; true when somebody cancelled it."""
    with control.catalog.write() as session:
        job = find_job(session, None, job_id)
        message = f"waiting for the store: {error.message}"
        if job.message != message:
            job.message = message
            job.events += 1
        return job.cancel


async def clean(control: Control, job_id: str) -> bool:
    """After a failed backup job: finish the backup when its manifest is in the store, else remove what is there.

    True when the backup is whole. What cannot be decided or removed now is noted in the job's output, for ``finish_left``.
    """
    return await asyncio.to_thread(_clean, control, job_id)


def _clean(control: Control, job_id: str) -> bool:
    backup, store = _find(control, job_id)
    if backup.status == "COMPLETED":
        return True
    try:
        return _finish_or_remove(control, job_id, backup, store)
    except (StorageError, ManifestInvalid, HostSilent):
        location = location_of(backup)
        with control.catalog.write() as session:
            job = find_job(session, None, job_id)
            job.output = {**job.output, "left": f"{location.container}/{location.id}"}
        raise


def _finish_or_remove(control: Control, job_id: str, backup: Backup, store: Store) -> bool:
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
        return _complete(control, job_id, store, *found)
    if wanted and _said_complete(control, job_id):
        raise StorageError(f"the store does not show the manifest of backup {backup.id}, which its worker has written")
    _require_writer_over(control, job_id)
    delete_artifact(store, location_of(backup))
    return False


def _require_writer_over(control: Control, job_id: str) -> None:
    """Raise HostSilent while the host of the job does not answer: its worker may still write. It is cancelled on its return."""
    with control.catalog.read() as session:
        host = find_job(session, None, job_id).host
    cause = control.presence.cause(host) if host else None
    if cause is not None:
        raise HostSilent(
            f"the worker of job {job_id} may still write: {cause.message}",
            remedy=f"What it wrote is removed when host {host} is back, or was removed.",
        )


def _said_complete(control: Control, job_id: str) -> bool:
    """The worker reported a manifest, and the job has not been looked at again since: a store may show it late."""
    with control.catalog.read() as session:
        output = find_job(session, None, job_id).output
        return "manifest" in output and "left" not in output


def finish_left(control: Control, job_id: str) -> bool:
    """Decide later what ``clean`` could not. True when the backup is whole after all. Raises StorageError, ManifestInvalid."""
    backup, store = _find(control, job_id)
    whole = _finish_or_remove(control, job_id, backup, store)
    with control.catalog.write() as session:
        job: Job = find_job(session, None, job_id)
        job.output = {key: value for key, value in job.output.items() if key != "left"}
    return whole


def _find(control: Control, job_id: str) -> tuple[Backup, Store]:
    with control.catalog.read() as session:
        job = find_job(session, None, job_id)
        backup = session.get(Backup, job.backup_id) if job.backup_id else None
        assert backup is not None
        return backup, control.for_job(job_id).store_of(backup.project)
