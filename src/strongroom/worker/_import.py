"""The import job: reads backups that another program wrote, once and completely."""

from __future__ import annotations

from typing import Any

from strongroom.artifact import ForeignBackup, ForeignReader, check_link, follow, open_chain
from strongroom.datastores import get
from strongroom.errors import ArtifactCorrupt, VersionMismatch
from strongroom.storage import open_store
from strongroom.worker._events import EventLog
from strongroom.worker.spec import ImportJob, WorkerSpec


def read_foreign(spec: WorkerSpec, job: ImportJob, events: EventLog) -> dict[str, Any]:
    """The hashes, sizes and positions of every backup of the chain. Raises ArtifactError, VersionMismatch, StorageError."""
    events.phase("check")
    store = open_store(job.storage, gid=spec.store_gid)
    open_chain(store, job.location)
    found: list[ForeignBackup] = []
    files = 0
    for number, backup in enumerate(job.location.backups):
        phase = f"read incremental {number}" if number else "read"
        events.phase(phase)
        described, count = _read_backup(
            job, ForeignReader(store, backup, keep=get(job.datastore).capabilities.side_files), found, events, phase
        )
        found.append(described)
        files += count
    events.close()
    return {"backups": [backup.model_dump(mode="json") for backup in found], "files": files, "seconds": events.seconds}


def _read_backup(
    job: ImportJob, reader: ForeignReader, before: list[ForeignBackup], events: EventLog, phase: str
) -> tuple[ForeignBackup, int]:
    reader.on_progress = lambda raw, stored: events.advance(phase, raw, stored)
    claimed = follow(before[-1], reader.manifest) if before else reader.manifest
    contents = reader.read()
    facts = get(job.datastore).backups.describe(contents.kept, contents.files, claimed.positions)
    version = facts.server_version or claimed.server_version
    if not f"{version}.".startswith(f"{claimed.datastore_version}."):
        raise VersionMismatch(
            f"{claimed.id} was taken from {claimed.datastore} {version}, not {claimed.datastore_version}",
            remedy="Give the version of the server from which it was taken.",
        )
    if claimed.positions.to_lsn not in (None, facts.positions.to_lsn):
        raise ArtifactCorrupt(
            f"{claimed.id} ends at LSN {facts.positions.to_lsn}, but according to its metadata at {claimed.positions.to_lsn}"
        )
    described = claimed.model_copy(
        update={
            "pieces": contents.pieces,
            "kind": facts.kind,
            "positions": facts.positions,
            "server_version": version,
            "raw_size": contents.raw_size,
            "data_size": before[-1].data_size if before else contents.raw_size,
        }
    )
    if before:
        check_link(before[-1], described)
    return described, len(contents.files)
