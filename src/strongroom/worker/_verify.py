"""The verify job."""

from __future__ import annotations

from typing import Any

from strongroom.artifact import ForeignChain, ForeignReader, Profile, load_chain, open_artifact, open_chain
from strongroom.artifact import verify as read_all
from strongroom.datastores import get
from strongroom.errors import InvalidRequest
from strongroom.storage import Store, open_store
from strongroom.worker._backup import damage
from strongroom.worker._events import EventLog
from strongroom.worker._restore import installed, open_readers, profile_of, restore_chain
from strongroom.worker.spec import VerifyJob, WorkerSpec


def verify(spec: WorkerSpec, job: VerifyJob, events: EventLog) -> dict[str, Any]:
    """Read the whole backup and check its chain; with ``prepare`` restore the chain into scratch space as well."""
    events.phase("check")
    store = open_store(job.storage, gid=spec.store_gid)
    if isinstance(job.location, ForeignChain):
        return _verify_foreign(spec, job, job.location, store, events)
    chain = load_chain(store, job.location, job.manifest_sha256)
    if chain[-1].datastore != job.datastore:
        raise InvalidRequest(f"backup {job.location.prefix} is of {chain[-1].datastore}, not of {job.datastore}")
    keys = [identity.get_secret_value() for identity in job.identities]
    reader = open_artifact(store, job.location, keys, settings=job.artifact)
    events.phase("read", total=chain[-1].raw_size)
    check = get(job.datastore).stream_check(chain[-1].positions)
    report = read_all(reader, lambda raw, stored: events.advance("read", raw, stored), check)
    if report.problems:
        first = report.problems[0]
        more = len(report.problems) - 1
        raise type(first)(f"{first.message} (and {more} more)" if more else first.message, remedy=first.remedy)
    output: dict[str, Any] = {
        "chain": [manifest.id for manifest in chain],
        "segments": report.segments,
        "raw_size": report.raw_size,
        "stored_size": report.stored_size,
        "files": report.files,
        "warnings": damage(chain),
    }
    if job.prepare:
        output["prepared"] = _rehearse(spec, job, store, events)
        output["warnings"] = output["prepared"]["warnings"]
    events.close()
    return output | {"seconds": events.seconds}


def _verify_foreign(spec: WorkerSpec, job: VerifyJob, location: ForeignChain, store: Store, events: EventLog) -> dict[str, Any]:
    open_chain(store, location)
    newest = location.backups[-1]
    events.phase("read", total=newest.raw_size or None)
    reader = ForeignReader(store, newest, on_progress=lambda raw, stored: events.advance("read", raw, stored))
    contents = reader.read()
    output: dict[str, Any] = {
        "chain": [backup.id for backup in location.backups],
        "segments": len(contents.pieces),
        "raw_size": contents.raw_size,
        "stored_size": newest.stored_size,
        "files": len(contents.files),
    }
    if job.prepare:
        output["prepared"] = _rehearse(spec, job, store, events)
    events.close()
    return output | {"seconds": events.seconds}


def _rehearse(spec: WorkerSpec, job: VerifyJob, store: Store, events: EventLog) -> dict[str, Any]:
    readers = open_readers(store, job)
    version = spec.server.version if spec.server else installed(spec, readers[-1].manifest)
    target = spec.work_dir / "rehearsal"
    target.mkdir(mode=0o700)
    output = restore_chain(spec, readers, version, target, events)
    if job.start:
        events.phase("read tables")
        newest = readers[-1].manifest
        profile = profile_of(newest) or Profile(settings=output["settings"])
        found = get(newest.datastore).profiles.rehearse(version, target, spec.work_dir, profile)
        events.close()
        output |= {"tables": found.tables, "warnings": [*output["warnings"], *found.warnings], "seconds": events.seconds}
    return output
