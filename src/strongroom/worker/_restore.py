"""The restore job, and the parts of it that ``verify`` with ``prepare`` also uses."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from strongroom.archive import Stretch
from strongroom.artifact import (
    ForeignBackup,
    ForeignReader,
    Format,
    Manifest,
    Notice,
    Pages,
    Positions,
    Profile,
    Ranges,
    Reader,
    describe_notices,
    open_artifact,
    open_chain,
)
from strongroom.datastores import (
    BackupKind,
    RestoredProfile,
    RestoreTarget,
    Server,
    Version,
    discover,
    get,
    keep_modes,
    write_restored_profile,
)
from strongroom.datastores.protocol.logs import OUTDATED, Replay
from strongroom.errors import ConfigurationError, NotFound, TooLarge, VersionMismatch
from strongroom.storage import Store, open_store
from strongroom.worker._backup import damage
from strongroom.worker._events import EventLog
from strongroom.worker.spec import LogReplay, RestoreJob, VerifyJob, WorkerSpec

Readers = Sequence[Reader | ForeignReader]


class Link:
    """One backup of a chain. It reports its progress in its own phase."""

    def __init__(self, number: int, reader: Reader | ForeignReader, events: EventLog) -> None:
        manifest = reader.manifest
        phase = f"extract incremental {number}" if number else "extract"
        if manifest.raw_size:
            events.expect(phase, manifest.raw_size)
        reader.on_progress = lambda raw, stored: events.advance(phase, raw, stored)
        self._reader = reader
        self.kind: BackupKind = manifest.kind
        self.positions: Positions = manifest.positions
        self.server_version = manifest.server_version
        self.raw_size = manifest.raw_size or manifest.stored_size
        self.data_size = manifest.data_size
        self.stream: Format = manifest.stream
        self.pages: Pages | None = manifest.pages if isinstance(manifest, Manifest) else None
        self.profile: Profile | None = profile_of(manifest)
        self._events = events
        self._phase = phase
        self._index: dict[str, Ranges] | None = None

    def chunks(self) -> Generator[bytes | memoryview, None, None]:
        """The raw, verified stream, piece by piece."""
        if total := self._reader.manifest.raw_size:
            self._events.expect(self._phase, total)
        return self._reader.chunks()

    def files(self) -> Collection[str]:
        """Paths of the files in the stream."""
        return self._ranges().keys()

    def extract(self, paths: Iterable[str]) -> Iterator[memoryview]:
        """The part of the stream that contains these files."""
        assert isinstance(self._reader, Reader)
        ranges = [part for path in paths for part in self._ranges()[path]]
        self._events.expect(self._phase, sum(length for _, length in ranges))
        return self._reader.cut(ranges)

    def _ranges(self) -> dict[str, Ranges]:
        if self._index is None:
            if isinstance(self._reader, ForeignReader):
                raise NotFound(f"backup {self._reader.manifest.id} has no index of its files")
            self._index = self._reader.index()
        return self._index


def profile_of(manifest: Manifest | ForeignBackup) -> Profile | None:
    """The profile of the backup's source server; None for older and imported backups."""
    return manifest.profile if isinstance(manifest, Manifest) else None


def restore(spec: WorkerSpec, job: RestoreJob, events: EventLog) -> dict[str, Any]:
    """Extract and prepare the chain in ``target_dir``."""
    assert spec.server is not None and spec.target_dir is not None
    events.phase("check")
    store = open_store(job.storage, gid=spec.store_gid)
    readers = open_readers(store, job)
    newest = readers[-1].manifest
    if job.volume_bytes is not None and newest.data_size > job.volume_bytes:
        raise TooLarge(
            f"backup {newest.name or newest.id} contains {newest.data_size >> 20} MiB of data, "
            f"more than the volume of {job.volume_bytes >> 20} MiB",
            remedy="Restore to an instance with a larger volume.",
        )
    target = RestoreTarget(spec.server.version, spec.server, job.in_place, [*job.tablespaces])
    profile = profile_of(newest)
    follows = job.replay is not None
    notices = require_fit(profile, target, newest, log_follows=follows)
    placement = get(spec.server.datastore).placement
    places = placement.prepare(spec.server, spec.places, spec.target_dir, spec.staging, profile)
    output = restore_chain(spec, readers, spec.server.version, spec.target_dir, events, spec.server, log_follows=follows)
    settings = output.pop("settings")
    profile = profile or Profile(settings=settings)
    if job.replay is not None:
        output |= apply_log(spec, job, job.replay, profile, output, events)
        profile = profile.model_copy(update={"settings": {**profile.settings, **output.pop("settings")}})
    write_restored_profile(spec.target_dir, RestoredProfile(profile=profile, isolated=job.makes_copy))
    if spec.server.is_adopted and spec.server.data_dir.is_dir():
        keep_modes(spec.server.data_dir, spec.target_dir)
    placed = placement.lay_out(spec.server, places, spec.target_dir, spec.staging)
    return output | {"warnings": [*output["warnings"], *notices, *placed], "isolated": job.makes_copy}


def apply_log(
    spec: WorkerSpec, job: RestoreJob, wanted: LogReplay, profile: Profile, output: dict[str, Any], events: EventLog
) -> dict[str, Any]:
    """Apply the log to the restored data in ``target_dir``. Returns what it changes of the ``output``."""
    assert spec.server is not None and spec.target_dir is not None
    keys = [identity.get_secret_value() for identity in job.identities]
    events.phase("replay", total=wanted.raw_size or None)
    with closing(open_store(wanted.storage, gid=spec.store_gid)) as store:
        replay = Replay(
            Stretch(store, wanted.log, wanted.pieces, keys),
            wanted.start,
            wanted.end,
            lambda done, _: events.advance("replay", done, 0),
            profile,
            Positions.model_validate(output["positions"]),
        )
        logs = get(spec.server.datastore).require_logs()
        replayed = logs.replay(spec.server.version, spec.target_dir, spec.work_dir, replay, spec.server)
    events.close()
    return {
        "positions": replayed.positions.model_dump(mode="json", exclude_none=True),
        "facts": output["facts"] | replayed.facts,
        "settings": replayed.settings,
        "warnings": [*output["warnings"], *replayed.warnings],
        "transactions": replayed.transactions,
        "seconds": events.seconds,
    }


def require_fit(
    profile: Profile | None, target: RestoreTarget, backup: Manifest | ForeignBackup, *, log_follows: bool = False
) -> list[str]:
    """Warnings for the user. Raises ConfigurationError if the backup cannot be restored to the target."""
    if profile is None:
        return []
    notices: list[Notice] = [*profile.notices, *get(backup.datastore).profiles.compare(profile, target)]
    if log_follows:
        notices = [notice for notice in notices if notice.item not in OUTDATED or notice.effect != "warn"]
    stopping = [n for n in notices if n.effect in ("refuse", "refuse_in_place" if target.in_place else "refuse_new")]
    if stopping:
        raise ConfigurationError(
            f"backup {backup.name or backup.id} cannot be restored here: {'; '.join(n.message for n in stopping)}",
            remedy=" ".join(n.remedy for n in stopping if n.remedy),
        )
    return [*describe_notices([n for n in notices if n.effect == "warn"]), *profile.absent]


def open_readers(store: Store, job: RestoreJob | VerifyJob, manifests: Sequence[Manifest] = ()) -> Readers:
    """The chain of the job. All backups are opened before anything is written, so that a missing key is detected early.

    ``manifests`` are those of the chain, if they have been read already.
    """
    keys = [identity.get_secret_value() for identity in job.identities]
    if manifests:
        return [open_artifact(store, each.location, keys, settings=job.artifact, manifest=each) for each in manifests]
    return open_chain(store, job.location, keys, settings=job.artifact, sha256=job.manifest_sha256)


def restore_chain(
    spec: WorkerSpec,
    readers: Readers,
    version: Version,
    target: Path,
    events: EventLog,
    server: Server | None = None,
    *,
    log_follows: bool = False,
) -> dict[str, Any]:
    """Extract and prepare in ``target``, for ``server``; a test restore has none."""
    chain = [reader.manifest for reader in readers]
    links = [Link(number, reader, events) for number, reader in enumerate(readers)]
    datastore = get(chain[-1].datastore)
    warnings = datastore.restores.find_differences(
        version, [each for backup in chain if isinstance(backup, Manifest) for each in backup.collations]
    )
    restored = datastore.restores.restore(version, links, target, spec.work_dir, events.phase, server, log_follows=log_follows)
    events.close()
    return {
        "chain": [manifest.id for manifest in chain],
        "positions": restored.positions.model_dump(mode="json", exclude_none=True),
        "facts": restored.facts,
        "settings": restored.settings,
        "warnings": [*damage(chain), *warnings, *restored.warnings],
        "raw_size": sum(manifest.raw_size for manifest in chain),
        "stored_size": sum(manifest.stored_size for manifest in chain),
        "data_size": chain[-1].data_size,
        "server_version": chain[-1].server_version,
        "seconds": events.seconds,
    }


def installed(spec: WorkerSpec, manifest: Manifest | ForeignBackup) -> Version:
    """The newest installed version of the backup's series. Raises VersionMismatch if none is installed on this host."""
    found = discover(manifest.datastore, spec.programs_places.get(manifest.datastore, []))
    for version in found:
        if version.series == manifest.datastore_version:
            return version
    raise VersionMismatch(
        f"there is no {manifest.datastore} {manifest.datastore_version} on this host",
        remedy=f"Install it, or add its directory to `datastores.{manifest.datastore}`.",
    )
