"""The import job: backups that another program wrote are read once, from end to end."""

from __future__ import annotations

from typing import Any

from strongroom.artifact import ForeignBackup, ForeignReader, check_link, follow, open_chain
from strongroom.datastores import get
from strongroom.errors import ArtifactCorrupt, VersionMismatch
from strongroom.storage import open_store
from strongroom.worker._events import EventLog
from strongroom.worker.spec import ImportJob, WorkerSpec


def read_foreign(spec: WorkerSpec, job: ImportJob, events: EventLog) -> dict[str, Any]:
    """Every backup of the chain with its hashes, sizes and positions. Raises ArtifactError, VersionMismatch, StorageError."""
    events.phase("check")
    store = open_store(job.storage, gid=spec.store_gid)
    open_chain(store, job.location)
    found: list[ForeignBackup] = []
    files = 0
    for number, backup in enumerate(job.location.backups):
        phase = f"read incremental {number}" if number else "read"
        events.phase(phase)
        described, count = _read(job, ForeignReader(store, backup, keep=get(job.datastore).side_files), found, events, phase)
        found.append(described)
        files += count
    events.close()
    return {"backups": [backup.model_dump(mode="json") for backup in found], "files": files, "seconds": events.seconds}


def _read(
    job: ImportJob, reader: ForeignReader, before: list[ForeignBackup], events: EventLog, phase: str
) -> tuple[ForeignBackup, int]:
    reader.on_progress = lambda raw, stored: events.advance(phase, raw, stored)
    said = follow(before[-1], reader.manifest) if before else reader.manifest
    contents = reader.read()
    facts = get(job.datastore).describe(contents.kept, contents.files, said.positions)
    version = facts.server_version or said.server_version
    if not f"{version}.".startswith(f"{said.datastore_version}."):
        raise VersionMismatch(
            f"{said.id} is of {said.datastore} {version}, not of {said.datastore_version}",
            remedy="Name the version that it was taken of.",
        )
    if said.positions.to_lsn not in (None, facts.positions.to_lsn):
        raise ArtifactCorrupt(f"{said.id} ends at LSN {facts.positions.to_lsn}, but its metadata say {said.positions.to_lsn}")
    described = said.model_copy(
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
