"""The backup job."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from strongroom.artifact import (
    Fact,
    ForeignBackup,
    Location,
    Manifest,
    Pages,
    Parent,
    Profile,
    Reader,
    Writer,
    load_chain,
    read_manifest,
    require_known_manifest,
)
from strongroom.datastores import BackupKind, BackupRequest, BackupSession, Datastore, Server, get
from strongroom.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactExists,
    ConfigurationError,
    Conflict,
    DatabaseDamaged,
    FileTwice,
    LineageChanged,
    StrongroomError,
    Unsupported,
    WalGone,
)
from strongroom.storage import Store, open_store
from strongroom.worker._events import EventLog
from strongroom.worker.spec import BackupJob, WorkerSpec


@dataclass(frozen=True, slots=True)
class _Base:
    """What the backup stands on: a parent for an incremental, nothing for a full; ``reason`` says why it is not as asked."""

    parent: Manifest | None = None
    manifest_sha256: str = ""
    reason: str | None = None

    @property
    def kind(self) -> BackupKind:
        return "incremental" if self.parent else "full"

    def as_parent(self) -> Parent | None:
        """What the manifest of the backup says of it; the driver has found its token in the server."""
        if self.parent is None:
            return None
        token = self.parent.witness.token if self.parent.witness else None
        return Parent(location=self.parent.location, manifest_sha256=self.manifest_sha256, token=token)


def back_up(spec: WorkerSpec, job: BackupJob, events: EventLog) -> dict[str, Any]:
    """Stream the server into a new artifact. One that is complete already (an earlier attempt was) is only reported."""
    assert spec.server is not None
    server, datastore = spec.server, get(spec.server.datastore)
    events.phase("check")
    store = open_store(job.storage, gid=spec.store_gid)

    def progress(raw: int, stored: int) -> None:
        for phase in ("copy", "finish"):  # the last segments are on their way when all is read
            events.advance(phase, raw, stored)

    def attempt(spec: WorkerSpec) -> dict[str, Any]:
        writer = Writer(
            store,
            job.location,
            job.artifact,
            job.recipients,
            stream=datastore.stream(server),
            keep=datastore.capabilities.keep,
            owner=job.owner,
            on_progress=progress,
        )
        try:
            writer.open()
        except ArtifactExists:
            manifest, sha256 = read_manifest(store, job.location)
            return _output(manifest, events) | {"manifest_sha256": sha256}
        with abort_on_error(writer):
            return _write(spec, job, events, store, writer, server, datastore)

    try:
        return attempt(spec)
    except FileTwice as error:  # a matter of the moment
        events.tell(f"{error.message}: the backup is begun again")
        again = spec.work_dir / "again"
        again.mkdir(mode=0o700)
        return attempt(spec.model_copy(update={"work_dir": again}))


@contextmanager
def abort_on_error(writer: Writer) -> Iterator[None]:
    """Remove what was written when the block raises. The error of the block stays the reason, whatever the removal meets."""
    try:
        yield
    except BaseException:
        try:
            writer.abort()
        except StrongroomError as error:
            traceback.print_exception(error)
        raise


def _write(
    spec: WorkerSpec, job: BackupJob, events: EventLog, store: Store, writer: Writer, server: Server, datastore: Datastore
) -> dict[str, Any]:
    lineage = datastore.lineage(server.data_dir)
    profile = _read_profile(datastore, server)
    base = _choose(store, job, server, lineage)
    session, base = _begin(spec, job, events, store, writer, server, datastore, base, profile)
    try:
        events.phase("copy", total=session.expected, message=base.reason)
        try:
            writer.copy_from(session.stdout, session.inspection)
        except FileTwice:
            raise
        except ArtifactCorrupt:
            session.finish()  # a tool or a server that died explains a stream that is cut short
            raise
        events.phase("finish")
        result = session.finish()
    finally:
        session.abort()
    if datastore.lineage(server.data_dir) != lineage:
        raise LineageChanged(f"the data of {server.name or server.id} was replaced during the backup", remedy="Back up again.")
    profile, changed = _agreed(profile, _read_profile(datastore, server), datastore.profiles.steady, server)
    writer.wait()
    pages = session.inspection.pages() if session.inspection else None
    if pages is not None and pages.damaged and job.damaged_pages == "fail":
        raise _damaged(pages)
    manifest = writer.finish(
        kind=base.kind,
        name=job.name,
        description=job.description,
        project=job.project,
        instance_id=job.instance_id,
        instance_name=job.instance_name,
        datastore=datastore.name,
        datastore_version=server.version.series,
        server_version=result.server_version,
        tool=result.tool,
        tool_version=result.tool_version,
        parent=base.as_parent(),
        chain=base.parent.chain if base.parent else job.location.id,
        lineage=lineage,
        host=socket.gethostname(),
        positions=result.positions,
        pages=pages,
        collations=result.collations,
        profile=profile,
        witness=result.witness,
        data_size=result.data_bytes,
    )
    try:
        datastore.stored(server, manifest.positions)
    except Exception as error:  # noqa: BLE001 - the backup is complete; the next one lets go of what was kept
        traceback.print_exception(error)
    return _output(manifest, events, base.reason, [*result.warnings, *changed, *writer.warnings]) | {
        "first_byte": writer.first_byte
    }


def _damaged(pages: Pages) -> DatabaseDamaged:
    error = DatabaseDamaged(
        f"the database is damaged: {pages.damage}",
        remedy="Look for a failing disk, and for what these pages hold in an older backup. "
        "--damaged-pages warn takes a backup all the same.",
    )
    error.output = {"pages": pages.model_dump(mode="json")}
    return error


def _read_profile(datastore: Datastore, server: Server) -> Profile:
    """Raises Unsupported when the server has something that no restore could bring back."""
    profile = datastore.profiles.read(server)
    refused = profile.stopping("refuse")
    if refused:
        raise Unsupported("; ".join(n.message for n in refused), remedy=" ".join(n.remedy for n in refused if n.remedy))
    return profile


def _agreed(before: Profile, after: Profile, steady: Collection[str], server: Server) -> tuple[Profile, list[str]]:
    """The profile that goes into the manifest, and warnings. The server as it was at the end is what a restore brings back.

    Nobody knows when a fact changed: lists hold what was there before or after, other facts are unknown. Raises
    ConfigurationError when something of ``steady``, or a directory outside the data directory, was changed.
    """
    changed = before.differences(after)
    outside = {name for name in before.outside.keys() | after.outside.keys() if name in changed}
    if stopping := [name for name in changed if name in steady or name in outside]:
        raise ConfigurationError(
            f"the configuration of {server.name or server.id} was changed during the backup: {', '.join(stopping)}",
            remedy="Back up again.",
        )
    profile = after.model_copy(
        update={
            "tables": after.tables if before.tables == after.tables else None,
            "empty_tables": sorted({*before.empty_tables, *after.empty_tables}),
            "facts": after.facts
            | {n: _either(before.facts.get(n), after.facts.get(n)) for n in changed if n in before.facts | after.facts},
        }
    )
    told = f"These were changed during the backup, which describes the server as it was at the end: {', '.join(changed)}."
    return profile, [told] if changed else []


def _either(before: Fact, after: Fact) -> Fact:
    if isinstance(before, list) and isinstance(after, list):
        return sorted({*before, *after})
    return None


def _choose(store: Store, job: BackupJob, server: Server, lineage: str) -> _Base:
    """The parent, when it can be stood on. Otherwise raises, or falls back to a full."""
    if job.backup_kind == "full" or job.parent is None:
        return _Base()
    try:
        parent, sha256 = _load_parent(store, job, job.parent)
        _require_same_history(parent, job, server, lineage)
        _require_same_keys(parent, job)
        if job.parent_witness is not None and job.parent_witness != parent.witness:
            raise LineageChanged(
                f"the store and the catalog disagree about backup {parent.name or parent.id}: one of them was put back",
                remedy="Take a full backup; incrementals can go on from that.",
            )
    except (ArtifactError, Conflict) as error:
        return _fall_back(job, error)
    return _Base(parent, sha256)


def _load_parent(store: Store, job: BackupJob, location: Location) -> tuple[Manifest, str]:
    """The parent and the hash of its manifest. Raises ArtifactMissing, ManifestInvalid, StorageError.

    What the catalog knows of it proves the whole chain, link by link; without that the chain is read.
    """
    if job.parent_sha256 is None:
        load_chain(store, location)
    parent, sha256 = read_manifest(store, location)
    require_known_manifest(parent, sha256, job.parent_sha256)
    return parent, sha256


def _fall_back(job: BackupJob, error: StrongroomError) -> _Base:
    if not job.fall_back_to_full:
        raise error
    return _Base(reason=f"A full backup was taken: {error.message.rstrip('.')}.")


def _require_same_history(parent: Manifest, job: BackupJob, server: Server, lineage: str) -> None:
    remedy = "Take a full backup; incrementals can go on from that."
    name = f"backup {parent.name or parent.id}"
    if parent.instance_id != job.instance_id:
        raise LineageChanged(f"{name} is of another instance ({parent.instance_id})", remedy=remedy)
    if parent.datastore != server.datastore or parent.datastore_version != server.version.series:
        raise LineageChanged(
            f"{name} is of {parent.datastore} {parent.datastore_version}, "
            f"but the server is {server.datastore} {server.version.series} now",
            remedy=remedy,
        )
    if parent.lineage != lineage:
        raise LineageChanged(f"the data of {server.name or server.id} was replaced since {name} was taken", remedy=remedy)


def _require_same_keys(parent: Manifest, job: BackupJob) -> None:
    """Raise Conflict when the keys are others than the parent's: perhaps no single identity would open the chain."""
    before, now = set(parent.recipients or []), set(job.recipients)
    if before == now:
        return
    name = f"backup {parent.name or parent.id}"
    remedy = "Take a full backup; incrementals can go on from that."
    if not now:
        raise Conflict(f"encryption was switched off since {name} was taken", remedy=remedy)
    if not before:
        raise Conflict(f"{name} is not encrypted, and encryption was switched on since it was taken", remedy=remedy)
    raise Conflict(f"encryption.recipients was changed since {name} was taken", remedy=remedy)


def _begin(
    spec: WorkerSpec,
    job: BackupJob,
    events: EventLog,
    store: Store,
    writer: Writer,
    server: Server,
    datastore: Datastore,
    base: _Base,
    profile: Profile,
) -> tuple[BackupSession, _Base]:
    def start(base: _Base) -> BackupSession:
        request = BackupRequest(
            kind=base.kind,
            parent=base.parent.positions if base.parent else None,
            work_dir=spec.work_dir,
            parallel=len(os.sched_getaffinity(0)),
            parent_file=Reader(store, base.parent, settings=job.artifact).read if base.parent else None,
            kept=writer.kept,
            paths=writer.paths,
            tell=events.tell,
            profile=profile,
            parent_profile=base.parent.profile if base.parent else None,
            parent_witness=base.parent.witness if base.parent else None,
        )
        return datastore.begin_backup(server, request)

    try:
        return start(base), base
    except (LineageChanged, WalGone) as error:
        base = _fall_back(job, error)
        return start(base), base


def damage(chain: Sequence[Manifest | ForeignBackup]) -> list[str]:
    """What the backups of a chain tell of damage in the database that they were taken from."""
    found = [(backup, backup.pages.damage) for backup in chain if isinstance(backup, Manifest) and backup.pages]
    return [
        f"the database was damaged when backup {backup.name or backup.id} was taken: {what}; look for a failing disk, "
        "and for what these pages hold in an older backup"
        for backup, what in found
        if what
    ]


def _output(manifest: Manifest, events: EventLog, reason: str | None = None, warnings: Sequence[str] = ()) -> dict[str, Any]:
    events.close()
    return {
        "manifest": manifest.model_dump(mode="json", exclude={"segments", "index"}, exclude_none=True),
        "segments": len(manifest.segments),
        "reason": reason,
        "warnings": [*damage([manifest]), *warnings, *(manifest.profile.warnings() if manifest.profile else [])],
        "seconds": events.seconds,
    }
