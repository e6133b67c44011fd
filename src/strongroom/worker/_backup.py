"""The backup job."""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
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
    LogPastEnd,
    StorageError,
    StrongroomError,
    Unsupported,
    WalGone,
)
from strongroom.storage import Store, open_store
from strongroom.worker._events import EventLog
from strongroom.worker.spec import TOOK_FULL, BackupJob, StorageSpec, WorkerSpec

_ATTEMPTS = 3
"""How often a backup is attempted if its tool fails for a reason that depends on timing."""
_TAKE_FULL = "Take a full backup; later incrementals can be based on it."


@dataclass(frozen=True, slots=True)
class _Base:
    """The base of the backup: a parent for an incremental, none for a full. ``reason``: why it differs from the request."""

    parent: Manifest | None = None
    manifest_sha256: str = ""
    reason: str | None = None

    @property
    def kind(self) -> BackupKind:
        return "incremental" if self.parent else "full"

    def as_parent(self) -> Parent | None:
        """The parent for the manifest of the backup. The driver has found the parent's token in the server."""
        if self.parent is None:
            return None
        token = self.parent.witness.token if self.parent.witness else None
        return Parent(location=self.parent.location, manifest_sha256=self.manifest_sha256, token=token)


def back_up(spec: WorkerSpec, job: BackupJob, events: EventLog) -> dict[str, Any]:
    """Stream the server's data into a new artifact. If an earlier attempt completed the artifact, only report it."""
    assert spec.server is not None
    server, datastore = spec.server, get(spec.server.datastore)
    events.phase("check")
    if job.container_exists:
        _require_mounted(job.storage, job.location.container)
    store = open_store(job.storage, gid=spec.store_gid)

    def progress(raw: int, stored: int) -> None:
        for phase in ("copy", "finish"):  # the last segments are still being stored when everything has been read
            events.advance(phase, raw, stored)

    def attempt(spec: WorkerSpec) -> dict[str, Any]:
        writer = Writer(
            store,
            job.location,
            job.artifact,
            job.recipients,
            stream=datastore.backups.stream_format(server),
            keep=datastore.capabilities.keep,
            keep_end=datastore.capabilities.keep_end,
            owner=job.owner,
            on_progress=progress,
        )
        with abort_on_error(writer):
            try:
                writer.open()
            except ArtifactExists:
                manifest, sha256 = read_manifest(store, job.location)
                return _make_output(manifest, events) | {"manifest_sha256": sha256}
            return _write_artifact(spec, job, events, store, writer, server, datastore)

    for number in range(1, _ATTEMPTS):
        try:
            return attempt(spec)
        except (FileTwice, LogPastEnd) as error:  # both depend on timing
            events.add_message(f"{error.message}: the backup is started again")
            again = spec.work_dir / f"again-{number}"
            again.mkdir(mode=0o700)
            spec = spec.model_copy(update={"work_dir": again})
    return attempt(spec)


def _require_mounted(storage: StorageSpec, container: str) -> None:
    """Raise StorageError if a directory store lacks the container: the backup would be hidden below a mounted file system."""
    if storage.driver != "directory" or storage.path is None:
        return
    directory = storage.path / container
    with suppress(PermissionError):  # opening the store names the cause
        if directory.is_dir():
            return
        raise StorageError(
            f"the directory {directory} does not exist, though the catalog knows backups in it",
            remedy="Mount the file system of the store. If the backups are lost, create the directory to start again.",
        )


@contextmanager
def abort_on_error(writer: Writer) -> Iterator[None]:
    """Remove what was written if the block raises. Its error is raised even if the removal fails."""
    try:
        yield
    except BaseException:
        try:
            writer.abort()
        except StrongroomError as error:
            traceback.print_exception(error)
        raise


def _write_artifact(
    spec: WorkerSpec, job: BackupJob, events: EventLog, store: Store, writer: Writer, server: Server, datastore: Datastore
) -> dict[str, Any]:
    lineage = datastore.servers.ensure_lineage(server.data_dir)
    profile = _read_profile(datastore, server)
    base = _choose_base(store, job, server, lineage)
    session, base = _begin_session(spec, job, events, store, writer, server, datastore, base, profile)
    try:
        events.phase("copy", total=session.expected, message=base.reason)
        if base.kind == "full" and session.expected is not None:
            writer.require_capacity(session.expected)
        try:
            writer.copy_from(session.stdout, session.inspection)
        except FileTwice:
            raise
        except ArtifactCorrupt:
            session.finish()  # raises a better error if the stream is incomplete because the tool or the server died
            raise
        events.phase("finish")
        result = session.finish()
    finally:
        session.abort()
    if datastore.servers.ensure_lineage(server.data_dir) != lineage:
        raise LineageChanged(f"the data of {server.name or server.id} was replaced during the backup", remedy="Back up again.")
    profile, changed = _merge_profiles(profile, _read_profile(datastore, server), datastore.profiles.steady, server)
    writer.wait()
    pages = session.inspection.pages() if session.inspection else None
    if pages is not None and pages.damaged and job.damaged_pages == "fail":
        raise _make_damage_error(pages)
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
        datastore.backups.release(server, manifest.positions)
    except Exception as error:  # noqa: BLE001 - the backup is complete; the next one releases what the server keeps
        traceback.print_exception(error)
    return _make_output(manifest, events, base.reason, [*result.warnings, *changed, *writer.warnings]) | {
        "manifest_sha256": writer.manifest_sha256,
        "first_byte": writer.first_byte,
    }


def _make_damage_error(pages: Pages) -> DatabaseDamaged:
    error = DatabaseDamaged(
        f"the database is damaged: {pages.damage}",
        remedy="Check the disk, and look for the content of these pages in an older backup. "
        "To take a backup anyway, use --damaged-pages warn.",
    )
    error.output = {"pages": pages.model_dump(mode="json")}
    return error


def _read_profile(datastore: Datastore, server: Server) -> Profile:
    """The profile of the server. Raises Unsupported if a restore could not reproduce something in it."""
    profile = datastore.profiles.read(server)
    refused = profile.stopping("refuse")
    if refused:
        raise Unsupported("; ".join(n.message for n in refused), remedy=" ".join(n.remedy for n in refused if n.remedy))
    return profile


def _merge_profiles(before: Profile, after: Profile, steady: Collection[str], server: Server) -> tuple[Profile, list[str]]:
    """The profile for the manifest, and warnings. A restore reproduces the server's state at the end of the backup.

    It is unknown when a fact changed. So lists contain what was there before or after, and other facts become unknown. Raises
    ConfigurationError if something in ``steady``, or a directory outside the data directory, was changed.
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
            | {n: _merge_facts(before.facts.get(n), after.facts.get(n)) for n in changed if n in before.facts | after.facts},
        }
    )
    warning = f"Changed during the backup, which records the state at its end: {', '.join(changed)}."
    return profile, [warning] if changed else []


def _merge_facts(before: Fact, after: Fact) -> Fact:
    if isinstance(before, list) and isinstance(after, list):
        return sorted({*before, *after})
    return None


def _choose_base(store: Store, job: BackupJob, server: Server, lineage: str) -> _Base:
    """The base of the backup. If the parent cannot be used, raises or falls back to a full backup."""
    if job.backup_kind == "full" or job.parent is None:
        return _Base()
    try:
        parent, sha256 = _load_parent(store, job, job.parent)
        _require_same_history(parent, job, server, lineage)
        _require_same_keys(parent, job)
        if job.parent_witness is not None and job.parent_witness != parent.witness:
            raise LineageChanged(
                f"the store and the catalog differ about backup {parent.name or parent.id}: one of them was restored to an older "
                "state",
                remedy=_TAKE_FULL,
            )
    except (ArtifactError, Conflict) as error:
        return _fall_back(job, error)
    return _Base(parent, sha256)


def _load_parent(store: Store, job: BackupJob, location: Location) -> tuple[Manifest, str]:
    """The parent and the hash of its manifest. Raises ArtifactMissing, ManifestInvalid, StorageError.

    The hash in the catalog proves the whole chain, because each manifest has the hash of its parent's. Without it, the manifests
    of the whole chain are read.
    """
    if job.parent_sha256 is None:
        load_chain(store, location)
    parent, sha256 = read_manifest(store, location)
    require_known_manifest(parent, sha256, job.parent_sha256)
    return parent, sha256


def _fall_back(job: BackupJob, error: StrongroomError) -> _Base:
    if not job.fall_back_to_full:
        raise error
    return _Base(reason=f"{TOOK_FULL}{error.message.rstrip('.')}.")


def _require_same_history(parent: Manifest, job: BackupJob, server: Server, lineage: str) -> None:
    name = f"backup {parent.name or parent.id}"
    if parent.instance_id != job.instance_id:
        raise LineageChanged(f"{name} belongs to another instance ({parent.instance_id})", remedy=_TAKE_FULL)
    if parent.datastore != server.datastore or parent.datastore_version != server.version.series:
        raise LineageChanged(
            f"{name} was taken from {parent.datastore} {parent.datastore_version}, "
            f"but the server is now {server.datastore} {server.version.series}",
            remedy=_TAKE_FULL,
        )
    if parent.lineage != lineage:
        raise LineageChanged(f"the data of {server.name or server.id} was replaced since {name} was taken", remedy=_TAKE_FULL)


def _require_same_keys(parent: Manifest, job: BackupJob) -> None:
    """Raise Conflict if the keys differ from the parent's, because then perhaps no single identity decrypts the chain."""
    before, now = set(parent.recipients or []), set(job.recipients)
    if before == now:
        return
    name = f"backup {parent.name or parent.id}"
    if not now:
        raise Conflict(f"encryption was disabled since {name} was taken", remedy=_TAKE_FULL)
    if not before:
        raise Conflict(f"{name} is not encrypted, but encryption was enabled since", remedy=_TAKE_FULL)
    raise Conflict(f"encryption.recipients was changed since {name} was taken", remedy=_TAKE_FULL)


def _begin_session(
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
            tell=events.add_message,
            profile=profile,
            parent_profile=base.parent.profile if base.parent else None,
            parent_witness=base.parent.witness if base.parent else None,
        )
        return datastore.backups.begin(server, request)

    try:
        return start(base), base
    except (LineageChanged, WalGone) as error:
        base = _fall_back(job, error)
        return start(base), base


def damage(chain: Sequence[Manifest | ForeignBackup]) -> list[str]:
    """Warnings about damaged pages of the database that were found when the backups of a chain were taken."""
    found = [(backup, backup.pages.damage) for backup in chain if isinstance(backup, Manifest) and backup.pages]
    return [
        f"the database was damaged when backup {backup.name or backup.id} was taken: {what}; check the disk, "
        "and look for the content of these pages in an older backup"
        for backup, what in found
        if what
    ]


def _make_output(manifest: Manifest, events: EventLog, reason: str | None = None, warnings: Sequence[str] = ()) -> dict[str, Any]:
    events.close()
    return {
        "manifest": manifest.model_dump(mode="json", exclude={"segments", "index"}, exclude_none=True),
        "segments": len(manifest.segments),
        "reason": reason,
        "warnings": [*damage([manifest]), *warnings, *(manifest.profile.warnings() if manifest.profile else [])],
        "seconds": events.seconds,
    }
