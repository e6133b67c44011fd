"""Rebuild the catalog from the manifests in the store."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.artifact import Location, Manifest, Problem, artifact_url, list_artifacts, read_manifest, require_container
from strongroom.catalog import Backup, Hold, Job
from strongroom.catalog.find import find_job, unfinished_jobs
from strongroom.errors import ArtifactMissing, Busy, Cancelled, StorageError, StorageNotFound
from strongroom.flows import outcomes
from strongroom.flows.backups.labels import take_over_label
from strongroom.flows.backups.seals import judge_backup
from strongroom.flows.backups.verification import take_over
from strongroom.flows.jobs import new_job
from strongroom.flows.kind import JobKind
from strongroom.flows.records import check_container
from strongroom.flows.site import Site

MOST_SHOWN = 1000
"""Maximum length of each list in the output of the job; the counts include all entries."""
_LONGEST_ID = 36
PROGRESS = 1.0
"""Seconds between two updates of the job's progress."""
_ROWS_PER_TRANSACTION = 100
"""Other writers wait while a transaction is open."""


def request_rebuild(site: Site, project: str, *, container: str | None = None, dry_run: bool = False) -> Job:
    """Search the store, or one container, and add every backup that the catalog does not know.

    This adds backups of all projects, unless each project has its own store. Existing entries are not changed; instances cannot
    be recovered. ``dry_run`` only reports what would be added. Raises InvalidRequest, Busy.
    """
    if container is not None:
        check_container(container)
    with site.catalog.write() as session:
        for running in unfinished_jobs(session):
            if running.kind == "rebuild":
                raise Busy(f"rebuild job {running.id} is {running.status}", remedy="Wait for it, or cancel it.")
        job = new_job(session, project, "rebuild", container=container, dry_run=dry_run, partition="rebuild")
    site.start(job)
    return job


async def rebuild(site: Site, job_id: str) -> None:
    """Read every manifest, and add rows for those that have none. Damaged manifests are reported and skipped."""

    def work() -> None:
        with site.catalog.read() as session:
            job = find_job(session, None, job_id)
        search = _Search(site, job)
        for found in list_artifacts(search.store, job.params.get("container")):
            search.add(found)
        search.write()
        search.require_shown()
        search.report_missing_parents()
        with site.catalog.write() as session:
            find_job(session, None, job_id).output = search.output()

    await asyncio.to_thread(work)


class _Search:
    def __init__(self, site: Site, job: Job) -> None:
        self._site = site
        self._job = job
        self.store = site.stores.of_project(job.project)
        self._dry = bool(job.params.get("dry_run"))
        self._waiting: list[Manifest] = []
        self._parents: dict[str, Manifest] = {}
        self._seen: set[str] = set()
        self._doubtful: dict[str, Location] = {}
        self._holds: dict[str, Hold] = {}
        self._added: list[dict[str, Any]] = []
        self._problems: list[dict[str, Any]] = []
        self._next_progress = 0.0
        self._found = self._known = self._unsealed = 0
        self._warning: str | None = None

    def add(self, found: Manifest | Problem) -> None:
        """Add a manifest or a problem that was found in the store."""
        if isinstance(found, Problem):
            self._doubt(found)
            if self._is_artifact(found) and not self._is_in_use(found.id):
                self._report(found.container, found.id, found.error.code, found.error.message)
            return
        self._found += 1
        if len(found.id) > _LONGEST_ID:
            self._report(found.container, found.id, "ManifestInvalid", f"an id of more than {_LONGEST_ID} characters")
            return
        if found.id in self._seen:
            self._report(found.container, found.id, "AlreadyExists", "another container has a backup with this id")
            return
        self._seen.add(found.id)
        slim = found.model_copy(update={"segments": []})
        if slim.parent is not None:
            self._parents[slim.id] = slim
        self._waiting.append(slim)
        self._show_progress()
        if len(self._waiting) >= _ROWS_PER_TRANSACTION:
            self.write()

    def write(self) -> None:
        """Write rows for the added manifests that the catalog does not know."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        with self._site.catalog.read() as session:
            known = _find_known(session, [manifest.id for manifest in waiting])
        self._known += len(known)
        rows: list[Backup] = []
        for manifest in waiting:  # this reads from the store, so no transaction is open
            self._show_progress()
            if manifest.id not in known and (row := self._make_row(manifest)) is not None:
                rows.append(row)
        with self._site.catalog.write() as session:
            known = _find_known(session, [row.id for row in rows])
            self._known += len(known)
            for row in rows:
                if row.id in known:
                    continue
                hold = self._holds.pop(row.id, None)
                self._added.append(_describe(row, hold))
                if not self._dry:
                    session.add(row)
                    session.add_all([hold] if hold is not None else [])

    def _show_progress(self) -> None:
        """Show in the job how many backups were found, once a second. Raises Cancelled."""
        if time.monotonic() < self._next_progress:
            return
        self._next_progress = time.monotonic() + PROGRESS
        with self._site.catalog.write() as session:
            job = find_job(session, None, self._job.id)
            if job.cancel:
                raise Cancelled(f"rebuild job {job.id} was cancelled; the backups that it added stay")
            job.phase, job.done, job.events = "read", self._found, job.events + 1

    def _doubt(self, found: Problem) -> None:
        """Raise StorageError if the store fails as a whole, and not only at this artifact."""
        with contextlib.suppress(ValidationError):
            location = Location(container=found.container, id=found.id)
            if isinstance(found.error, StorageError):
                require_container(self.store, location)
            self._doubtful.setdefault(found.container, location)

    def require_shown(self) -> None:
        """Raise StorageError if the store shows nothing, or lost a container meanwhile: that says nothing about the backups."""
        for location in self._doubtful.values():
            require_container(self.store, location)
        wanted = self._job.params.get("container")
        if not self._found and wanted:
            require_container(self.store, Location(container=wanted, id="any"))
        elif not self._found and next(iter(self.store.folders()), None) is None:
            empty = f"the store {self.store.url('')} shows no backups and no containers"
            remedy = "Check that its file system is mounted, and that it is the right directory, bucket or project."
            with self._site.catalog.read() as session:  # then the store is not a new one
                is_used = self._site.stores.has_backups(session, self._job.project)
            if is_used:
                raise StorageError(empty, remedy=remedy)
            self._warning = f"{empty}. {remedy}"

    def report_missing_parents(self) -> None:
        """Report backups that cannot be restored because their parent was not found."""
        with self._site.catalog.read() as session:
            for manifest in self._parents.values():
                assert manifest.parent is not None
                parent = manifest.parent.location
                if parent.id not in self._seen and session.get(Backup, parent.id) is None:
                    self._report(manifest.container, manifest.id, "ArtifactMissing", f"its parent {parent.prefix} does not exist")

    def output(self) -> dict[str, Any]:
        """The output of the job."""
        return {
            "dry_run": self._dry,
            "found": self._found,
            "known": self._known,
            "added": len(self._added),
            "backups": self._added[:MOST_SHOWN],
            "unsealed": self._unsealed,
            "warning": self._warning,
            "broken": len(self._problems),
            "problems": self._problems[:MOST_SHOWN],
        }

    def _make_row(self, manifest: Manifest) -> Backup | None:
        """The row of a backup; None if its seal proves that its manifest was replaced."""
        row = Backup(
            id=manifest.id,
            project=manifest.project or self._job.project,
            name=manifest.name or manifest.id,
            description=manifest.description,
            instance_id=manifest.instance_id,
            instance_name=manifest.instance_name,
            container=manifest.container,
            datastore=manifest.datastore,
            series=manifest.datastore_version,
            created=manifest.started,
        )
        manifest, sha256 = read_manifest(self.store, manifest.location)
        verdict = judge_backup(self._site, self.store, manifest.location, sha256)
        if verdict == "forged":
            self._report(
                manifest.container, manifest.id, "ManifestInvalid", "its manifest was replaced: the seal belongs to another one"
            )
            return None
        self._unsealed += verdict != "sealed"
        outcomes.complete_backup(row, manifest, sha256, artifact_url(self.store, manifest), None)
        take_over(row, self.store, manifest, sha256)
        if (hold := take_over_label(row, self.store)) is not None:
            self._holds[row.id] = hold
        row.updated = manifest.finished
        return row

    def _is_artifact(self, found: Problem) -> bool:
        """Whether an artifact was ever here: a store may also hold files of other programs."""
        try:
            location = Location(container=found.container, id=found.id)
        except ValidationError:
            return False
        if not isinstance(found.error, ArtifactMissing):
            return True
        for key in (location.intent, location.segment(0)):
            with contextlib.suppress(StorageNotFound):
                self.store.head(key)
                return True
        return False

    def _is_in_use(self, backup_id: str) -> bool:
        """Whether the backup is being written or deleted: then its folder may have no manifest."""
        with self._site.catalog.read() as session:
            row = session.get(Backup, backup_id)
            return row is not None and (row.status in Backup.RUNNING or row.status == "DELETING")

    def _report(self, container: str, name: str, code: str, message: str) -> None:
        self._problems.append({"at": f"{container}/{name}", "code": code, "message": message})


def _describe(row: Backup, hold: Hold | None) -> dict[str, Any]:
    return {
        "id": row.id,
        "name": row.name,
        "kind": row.kind,
        "project": row.project,
        "protected": row.protected,
        "held": hold is not None,
        "at": row.location,
    }


def _find_known(session: Session, ids: Sequence[str]) -> set[str]:
    """Those of ``ids`` that the catalog knows."""
    return set(session.scalars(select(Backup.id).where(Backup.id.in_(ids))))


REBUILD = JobKind(name="rebuild", operation="rebuild the catalog", steps=(rebuild,), lane="stores")
