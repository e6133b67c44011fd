"""The verify job: reads the whole chain of a backup, or only compares sizes; with ``prepare``, restores it to scratch space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from strongroom.artifact import (
    PROVES_DAMAGE,
    BrokenLink,
    ForeignChain,
    ForeignReader,
    Level,
    Location,
    Manifest,
    Profile,
    Reader,
    Report,
    compare_sizes,
    open_artifact,
    open_chain,
    require_container,
    walk_chain,
)
from strongroom.artifact import verify as read_all
from strongroom.datastores import get
from strongroom.errors import ArtifactError, InvalidRequest, StrongroomError
from strongroom.storage import Store, open_store
from strongroom.worker._backup import damage
from strongroom.worker._events import EventLog
from strongroom.worker._restore import installed, open_readers, profile_of, restore_chain
from strongroom.worker.spec import LinkResult, VerifyJob, WorkerSpec


@dataclass(slots=True)
class _Findings:
    """The results so far, the oldest backup first."""

    chain: list[str] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    links: list[LinkResult] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: StrongroomError | None = None
    prepared: dict[str, Any] | None = None

    def add(self, result: LinkResult, problems: Sequence[StrongroomError] = ()) -> None:
        """Add the result of one backup. The first damage becomes the error of the job."""
        if problems:
            error = _sum_up(problems)
            if self.error is None:
                where = f"{result.container}/{result.id}"
                base = "" if result.target else f"backup {where}, on which it is based, is damaged: "
                self.error = type(error)(base + error.message, remedy=error.remedy)
            result = result.model_copy(update={"code": error.code, "message": error.message})
        self.links.append(result)

    def output(self, events: EventLog) -> dict[str, Any]:
        """The output of the job. Bytes and segments are sums over all backups that were read."""
        read = [link for link in self.links if link.level is not None]
        target = next((link for link in self.links if link.target), None)
        output: dict[str, Any] = {
            "chain": self.chain,
            "results": [link.model_dump(mode="json") for link in self.links],
            "links": len(read),
            "segments": sum(link.segments for link in read),
            "raw_size": sum(link.raw_size for link in read),
            "stored_size": sum(link.stored_size for link in read),
            "files": target.files if target else None,
            "level": target.level if target else None,
            "warnings": self.warnings,
        }
        if self.prepared is not None:
            warnings = dict.fromkeys([*self.warnings, *self.prepared["warnings"]])  # both report damage of the chain
            output |= {"prepared": self.prepared, "warnings": list(warnings)}
        events.close()
        return output | {"seconds": events.seconds}


def verify(spec: WorkerSpec, job: VerifyJob, events: EventLog) -> dict[str, Any]:
    """Read the backup and those that it is based on, and check the chain; with ``prepare`` restore it to scratch space.

    Raises the first damage, with the results of all backups as its ``output``. Errors that prove nothing about the backup, such
    as StorageError and CannotDecrypt, are raised without ``output``.
    """
    events.phase("check")
    store = open_store(job.storage, gid=spec.store_gid)
    found = _Findings()
    if isinstance(job.location, ForeignChain):
        _read_foreign(job.location, store, found, events)
    else:
        _read_own(job, store, found, events)
    if job.prepare and found.error is None:
        _rehearse(spec, job, store, found, events)
    output = found.output(events)
    if found.error is not None:
        _require_containers(job, store, found)
        found.error.output = output
        raise found.error
    return output


def _require_containers(job: VerifyJob, store: Store, found: _Findings) -> None:
    """Raise StorageError if the store lacks a whole container of the chain: an outage, which proves nothing about the backups."""
    if isinstance(job.location, ForeignChain):
        require_container(store, job.location)
        return
    for container in sorted({link.container for link in found.links if link.code is not None}):
        require_container(store, Location(container=container, id=job.location.id))


def _read_own(job: VerifyJob, store: Store, found: _Findings, events: EventLog) -> None:
    assert isinstance(job.location, Location)
    chain: list[tuple[Manifest, str]] = []
    try:
        for link in walk_chain(store, job.location, job.manifest_sha256):
            chain.append(link)
    except BrokenLink as broken:
        found.add(_describe_broken(job, chain, broken.location), [broken.error])
        return
    chain.reverse()
    found.manifests = [manifest for manifest, _ in chain]
    found.chain = [manifest.id for manifest in found.manifests]
    newest = chain[-1][0]
    if newest.datastore != job.datastore:
        raise InvalidRequest(f"backup {newest.location.prefix} is of {newest.datastore}, not of {job.datastore}")
    found.warnings += damage([manifest for manifest, _ in chain])
    wanted = [_Wanted(manifest, sha256, target=manifest is newest) for manifest, sha256 in (chain if job.chain else chain[-1:])]
    if job.quick:
        events.phase("compare sizes")
        for each in wanted:
            _compare_sizes(store, each, found)
    else:
        _read_links(job, store, wanted, found, events)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One backup to verify, with the hash of its manifest."""

    manifest: Manifest
    sha256: str
    target: bool

    def result(self, level: Level, report: Report | None = None, warnings: Sequence[str] = ()) -> LinkResult:
        """The result of the backup, from ``report``."""
        result = LinkResult(
            id=self.manifest.id,
            container=self.manifest.container,
            target=self.target,
            manifest_sha256=self.sha256,
            level=level,
            warnings=list(warnings),
        )
        if report is None:
            return result
        return result.model_copy(
            update={
                "segments": report.segments,
                "raw_size": report.raw_size,
                "stored_size": report.stored_size,
                "files": report.files,
            }
        )


def _describe_broken(job: VerifyJob, followed: Sequence[tuple[Manifest, str]], at: Location) -> LinkResult:
    """The backup at which the chain is broken. The hash of its manifest is known from its child or from the catalog."""
    known = {manifest.location: sha256 for manifest, sha256 in followed}
    known |= {manifest.parent.location: manifest.parent.manifest_sha256 for manifest, _ in followed if manifest.parent}
    target = at == job.location
    sha256 = job.manifest_sha256 if target and job.manifest_sha256 else known.get(at)
    return LinkResult(id=at.id, container=at.container, target=target, manifest_sha256=sha256, level="content")


def _compare_sizes(store: Store, wanted: _Wanted, found: _Findings) -> None:
    report = compare_sizes(store, wanted.manifest)
    found.warnings += report.warnings
    found.add(wanted.result("sizes", report, report.warnings), report.problems)


def _read_links(job: VerifyJob, store: Store, wanted: Sequence[_Wanted], found: _Findings, events: EventLog) -> None:
    """Read the content of all backups. All are opened before the first is read, so that a missing key is detected early."""
    keys = [identity.get_secret_value() for identity in job.identities]
    readers: list[tuple[_Wanted, Reader]] = []
    for each in wanted:
        try:
            reader = open_artifact(store, each.manifest.location, keys, settings=job.artifact, manifest=each.manifest)
            readers.append((each, reader))
        except ArtifactError as error:
            if error.code not in PROVES_DAMAGE:
                raise
            found.add(each.result("content"), [error])
    events.phase("read", total=sum(each.manifest.raw_size for each in wanted))
    raw_before = stored_before = 0
    for each, reader in readers:

        def advance(raw: int, stored: int, raw_before: int = raw_before, stored_before: int = stored_before) -> None:
            events.advance("read", raw_before + raw, stored_before + stored)

        report = read_all(reader, advance, get(each.manifest.datastore).backups.stream_check(each.manifest.positions))
        expiring = list(compare_sizes(store, each.manifest).warnings) if store.capabilities.expiry else []
        found.warnings += expiring
        found.add(each.result("content", report, [*damage([each.manifest]), *expiring]), report.problems)
        raw_before += each.manifest.raw_size
        stored_before += each.manifest.stored_size


def _sum_up(problems: Sequence[StrongroomError]) -> StrongroomError:
    first, more = problems[0], len(problems) - 1
    return type(first)(f"{first.message} (and {more} more)" if more else first.message, remedy=first.remedy)


def _read_foreign(chain: ForeignChain, store: Store, found: _Findings, events: EventLog) -> None:
    """Read every backup that another program wrote completely. Only the newest one gets a result."""
    found.chain = [backup.id for backup in chain.backups]
    newest = chain.backups[-1]
    try:
        open_chain(store, chain)
        sizes = [backup.raw_size for backup in chain.backups]
        events.phase("read", total=sum(sizes) if all(sizes) else None)
        raw = stored = segments = files = 0
        for backup in chain.backups:
            raw_done, stored_done = raw, stored

            def advance(now: int, packed: int, raw_done: int = raw_done, stored_done: int = stored_done) -> None:
                events.advance("read", raw_done + now, stored_done + packed)

            contents = ForeignReader(store, backup, on_progress=advance).read()
            raw, stored = raw + contents.raw_size, stored + backup.stored_size
            segments, files = segments + len(contents.pieces), len(contents.files)
    except ArtifactError as error:
        if error.code not in PROVES_DAMAGE:
            raise
        found.add(LinkResult(id=newest.id, target=True, level="content"), [error])
        return
    found.links.append(
        LinkResult(id=newest.id, target=True, level="content", segments=segments, raw_size=raw, stored_size=stored, files=files)
    )


def _rehearse(spec: WorkerSpec, job: VerifyJob, store: Store, found: _Findings, events: EventLog) -> None:
    """Restore the chain. If a tool or the private server fails, the newest backup cannot be restored."""
    level: Level = "tables" if job.start else "prepared"
    target = found.links.pop().model_copy(update={"level": level})
    try:
        found.prepared = _restore_for_test(spec, job, store, found.manifests, events)
    except StrongroomError as error:
        if error.code not in PROVES_DAMAGE:
            raise
        found.add(target, [error])
        return
    found.add(target.model_copy(update={"tables": found.prepared.get("tables")}))


def _restore_for_test(
    spec: WorkerSpec, job: VerifyJob, store: Store, manifests: Sequence[Manifest], events: EventLog
) -> dict[str, Any]:
    readers = open_readers(store, job, manifests)
    version = spec.server.version if spec.server else installed(spec, readers[-1].manifest)
    target = spec.work_dir / "rehearsal"
    target.mkdir(mode=0o700)
    output = restore_chain(spec, readers, version, target, events)
    if job.start:
        events.phase("read tables")
        newest = readers[-1].manifest
        profile = profile_of(newest) or Profile(settings=output["settings"])
        rehearsed = get(newest.datastore).profiles.rehearse(version, target, spec.work_dir, profile)
        events.close()
        output |= {
            "tables": rehearsed.tables,
            "warnings": [*output["warnings"], *rehearsed.warnings],
            "seconds": events.seconds,
        }
    return output
