"""Import backups that other programs wrote, or register existing backups by location."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import PurePosixPath
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.artifact import (
    ForeignBackup,
    ForeignChain,
    Location,
    Place,
    check_link,
    find_foreign,
    follow,
    load_chain,
    locate,
    read_manifest,
)
from strongroom.catalog import Backup, Job, now, quotas
from strongroom.catalog.find import find_backup, find_job
from strongroom.catalog.queries import installed
from strongroom.errors import (
    ArtifactError,
    ArtifactMissing,
    Conflict,
    Forbidden,
    InvalidRequest,
    ManifestInvalid,
    NotFound,
    StorageError,
    UnknownValue,
)
from strongroom.flows.backups.chains import refuse_unless_restorable
from strongroom.flows.backups.sources import Source, source_of
from strongroom.flows.backups.verification import take_over
from strongroom.flows.hosts.placement import GB, reader_of
from strongroom.flows.hosts.versions import version_id
from strongroom.flows.jobs import new_job
from strongroom.flows.kind import Failure, JobKind
from strongroom.flows.outcomes import fail_backup
from strongroom.flows.records import check_name
from strongroom.flows.site import Site
from strongroom.flows.status import move_backup
from strongroom.flows.steps import backup_of, start_building, work
from strongroom.storage import Store
from strongroom.worker.spec import ImportJob, JobRequest


def request_restore_from(
    site: Site,
    project: str,
    *,
    name: str,
    location: str,
    version: str,
    size: float,
    description: str | None = None,
    admin: bool = False,
) -> Backup:
    """Register a backup that is already in the store: of this service, of a service in another region, or of Trove.

    Nothing is copied. ``version`` is its datastore version, ``size`` the size in GB to display. An ``admin`` may name backups of
    other projects or of unknown owners. Raises InvalidRequest if it does not exist or does not match, Forbidden, QuotaExceeded.
    """
    check_name(name, "backup")
    store, allowed = site.stores.of_project(project), admin or site.settings.storage.by_project
    with site.catalog.read() as session:
        datastore, series = _version(session, None, version)
    try:
        place = locate(store, location)
        row = _own(store, place, None if allowed else project) or _foreign(store, place, datastore, series, allowed)
    except (ArtifactError, StorageError, InvalidRequest) as error:
        raise InvalidRequest(f"Failed to restore backup from {location}: {error.message}", remedy=error.remedy) from error
    if (row.datastore, row.series) != (datastore, series):
        raise InvalidRequest(
            f"Failed to restore backup from {location}: it is of {row.datastore} {row.series}, not of {datastore} {series}",
            remedy=f"Specify the datastore version {row.series}.",
        )
    row.project, row.name, row.description, row.location = project, name, description, location
    row.data_size = round(size * GB)
    move_backup(row, "RESTORED")
    with site.catalog.write() as session:
        quotas.require(session, project, site.settings, {"backups": 1})
        session.add(row)
    return row


def request_import(
    site: Site,
    project: str,
    *,
    name: str,
    location: str,
    parent: str | None = None,
    datastore: str | None = None,
    version: str | None = None,
    description: str | None = None,
    admin: bool = False,
    paths: bool = False,
) -> tuple[Backup, Job]:
    """Import a backup of Trove or Kolla into the catalog. Its files are not changed; a job reads them once to check them.

    ``location`` is an object of the store or, with ``paths``, a file on the host. ``parent`` is the imported backup on which an
    incremental is based, if neither its metadata nor its LSN identify it. Raises InvalidRequest, NotFound, Conflict, Forbidden,
    QuotaExceeded, StorageError.
    """
    check_name(name, "backup")
    store, allowed = site.stores.of_project(project), admin or paths or site.settings.storage.by_project
    place = locate(store, location, paths=True)
    if place.directory is not None and not paths:
        raise Forbidden(
            "you may not import files by their paths on the host",
            remedy="Copy the files to the store, and specify their location there.",
        )
    with site.catalog.read() as session:
        datastore, series = _version(session, datastore or site.settings.datastores.default, version)
    try:
        if (
            place.directory is None and allowed and _own(store, place, None) is not None
        ):  # do not reveal to other callers what exists there
            raise InvalidRequest(
                f"{location} was written by Strongroom and needs no import",
                remedy="Use `strongroom catalog rebuild`, or register it with `strongroom backup create --restore-from`.",
            )
        row = _foreign(store, place, datastore, series, allowed)
    except ArtifactMissing as error:
        raise NotFound(error.message, remedy=error.remedy) from error
    except ArtifactError as error:
        raise Conflict(error.message, remedy=error.remedy) from error
    row.project, row.name, row.description = project, name, description
    backups = source_of(row).foreign
    row.location = backups[-1].url(store)
    with site.catalog.write() as session:
        quotas.require(session, project, site.settings, {"backups": 1})
        base = _named_parent(session, project, parent) if parent else _known(session, project, backups[-2:-1])
        if base is not None:
            row.parent_id, row.chain_id, row.kind = base.id, base.chain_id, "incremental"
            row.source = Source(foreign=[follow(source_of(base).foreign[-1], backups[-1])]).model_dump(mode="json")
        session.add(row)
        session.flush()
        job = new_job(session, project, "import", backup=row)
        job.host = reader_of(session, site, row)
    site.start(job)
    return row, job


def _version(session: Session, datastore: str | None, version: str | None) -> tuple[str, str]:
    """Datastore and series of an installed version, by its id, series or full version; the newest if none is named."""
    known = [(name, series, number) for name, found in installed(session).items() for series, number in found.items()]
    matches = [
        (name, series)
        for name, series, number in known
        if datastore in (None, name, version_id(name)) and version in (None, version_id(name, series), series, number)
    ]
    if not matches:
        what = f"version {version} of datastore {datastore}" if datastore else f"datastore version {version}"
        available = ", ".join(f"{name} {series} ({version_id(name, series)})" for name, series, _ in known)
        raise UnknownValue(f"{what} cannot be found", remedy=f"Installed: {available or 'none'}.")
    return matches[-1]


def _own(store: Store, place: Place, project: str | None) -> Backup | None:
    """A row for the artifact at ``place`` that a Strongroom wrote; None if there is none that ``project`` may see."""
    container, name, *_ = place.key.split("/")
    try:
        at = Location(container=container, id=name.partition(".")[0])
        manifest, sha256 = read_manifest(store, at)
    except (ValidationError, ArtifactMissing):
        return None
    except ManifestInvalid:
        if project is None:
            raise
        return None  # its project is unknown
    if project is not None and manifest.project != project:
        return None
    load_chain(store, at)
    backup_id = str(uuid.uuid4())
    row = Backup(
        id=backup_id,
        chain_id=backup_id,
        container=at.container,
        kind=manifest.kind,
        datastore=manifest.datastore,
        series=manifest.datastore_version,
        server_version=manifest.server_version,
        codec=manifest.codec.name,
        encrypted=manifest.recipients is not None,
        source=Source(artifact=at, manifest_sha256=sha256).model_dump(mode="json"),
        positions=manifest.positions.model_dump(mode="json", exclude_none=True),
        pages=manifest.pages.model_dump(mode="json") if manifest.pages else None,
        profile=manifest.profile.model_dump(mode="json", exclude_defaults=True) if manifest.profile else None,
        raw_size=manifest.raw_size,
        stored_size=manifest.stored_size,
        started=manifest.started,
        finished=manifest.finished,
    )
    take_over(row, store, manifest, sha256)
    return row


def _foreign(store: Store, place: Place, datastore: str, series: str, allowed: bool) -> Backup:
    """A row for the backup of another program at ``place``, with what is known before it is read."""
    if not allowed:
        raise Forbidden(
            f"{place.key} is in a store that all projects share, and its project is unknown",
            remedy="Ask an administrator to import it into your project.",
        )
    chain = find_foreign(store, place, datastore=datastore, datastore_version=series)
    backup_id, newest = str(uuid.uuid4()), chain.backups[-1]
    return Backup(
        id=backup_id,
        chain_id=backup_id,
        container=place.key.partition("/")[0] if place.directory is None else "",
        kind=newest.kind,
        datastore=datastore,
        series=series,
        server_version=newest.server_version,
        codec="gzip" if newest.packed else "none",
        encrypted=False,
        source=Source(foreign=chain.backups).model_dump(mode="json"),
        positions=newest.positions.model_dump(mode="json", exclude_none=True),
        stored_size=newest.stored_size,
    )


def _named_parent(session: Session, project: str, ref: str) -> Backup:
    base = find_backup(session, project, ref)
    if not source_of(base).foreign:
        raise InvalidRequest(
            f"parent backup {base.name} ({base.id}) was not imported; the parent of an imported backup must be imported, too",
            remedy="Import the parent first.",
        )
    refuse_unless_restorable(session, base)
    return base


def _imported(session: Session, project: str) -> list[Backup]:
    query = select(Backup).where(
        Backup.project == project, Backup.deleted.is_(None), Backup.status == "RESTORED", Backup.source.is_not(None)
    )
    return [row for row in session.scalars(query.order_by(Backup.created)) if source_of(row).foreign]


def _known(session: Session, project: str, parents: list[ForeignBackup]) -> Backup | None:
    """The row of the parent that the metadata names, if it was already imported."""
    for parent in parents:
        for row in _imported(session, project):
            known = source_of(row).foreign[-1]
            if (known.directory, known.pieces[0].key) == (parent.directory, parent.pieces[0].key):
                return row
    return None


async def record_import(site: Site, job_id: str) -> None:
    """Record what the worker found, and the parent of an incremental."""

    def keep() -> None:
        with site.catalog.write() as session:
            job = find_job(session, None, job_id)
            row = session.get(Backup, job.backup_id)
            assert row is not None
            found = [ForeignBackup.model_validate(value) for value in job.output.get("backups", [])]
            if not found:  # recorded before: the step is repeated
                return
            if row.parent_id is None and found[0].kind == "incremental":
                base = _by_lsn(session, row, found[0])
                row.parent_id, row.chain_id = base.id, base.chain_id
            if row.parent_id is not None:
                base = find_backup(session, row.project, row.parent_id)
                check_link(source_of(base).foreign[-1], found[0])
                found = [backup.model_copy(update={"data_size": base.data_size or 0}) for backup in found]
            _complete(row, found, job)
            job.output = {key: value for key, value in job.output.items() if key != "backups"}

    await asyncio.to_thread(keep)


def _complete(row: Backup, found: list[ForeignBackup], job: Job) -> None:
    newest = found[-1]
    row.source = Source(foreign=found).model_dump(mode="json")
    row.kind = newest.kind
    row.server_version = newest.server_version
    row.positions = newest.positions.model_dump(mode="json", exclude_none=True)
    row.raw_size, row.stored_size, row.data_size = newest.raw_size, newest.stored_size, newest.data_size
    row.started, row.finished = job.started, now()
    row.fault = None
    move_backup(row, "RESTORED")


def _by_lsn(session: Session, row: Backup, found: ForeignBackup) -> Backup:
    """The only imported backup in the same folder that ends at the LSN at which this one begins: Kolla records no parent."""
    begins = found.positions.from_lsn

    def is_parent(other: Backup) -> bool:
        last = source_of(other).foreign[-1]
        return last.positions.to_lsn == begins and _folder_of(last) == _folder_of(found) and other.series == row.series

    candidates = [other for other in _imported(session, row.project) if is_parent(other)]
    if len(candidates) == 1:
        return candidates[0]
    names = ", ".join(f"{other.name} ({other.id})" for other in candidates)
    raise Conflict(
        f"{found.id} is an incremental that begins at LSN {begins}, and "
        + (f"{len(candidates)} imported backups end there: {names}" if candidates else "no imported backup ends there"),
        remedy="Import its parent first, and specify it with --parent.",
    )


def _folder_of(backup: ForeignBackup) -> Any:
    """The container, or the directory of the host without the folder that Kolla makes for each backup."""
    if backup.directory is None:
        return PurePosixPath(backup.pieces[0].key).parts[0]
    folder = backup.directory
    return folder.parent if folder.name.startswith(("full-", "incr-")) else folder


def _make_request(site: Site, session: Session, job: Job) -> JobRequest:
    backup = backup_of(session, job)
    request = ImportJob(
        location=ForeignChain(backups=source_of(backup).foreign),
        datastore=backup.datastore,
        storage=site.stores.spec_holding(backup),
    )
    return JobRequest(server=None, job=request)


def _settle(session: Session, job: Job, failure: Failure | None) -> None:
    backup = backup_of(session, job)
    if failure is not None and fail_backup(backup, failure):
        backup.updated = now()


IMPORT = JobKind(
    name="import",
    operation="import backup {backup}",
    steps=(work, record_import),
    lane="heavy",
    order=_make_request,
    begin=start_building,
    settle=_settle,
)
