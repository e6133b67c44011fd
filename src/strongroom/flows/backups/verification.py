"""What a verify job found out: kept in the catalog, and in the store beside each backup that was looked at.

A result in the store survives the catalog. A result of a parent counts for all that are based on it: ``broken_chains`` follows
the chain, so nothing is copied to children.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import structlog
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.artifact import Level, Manifest, Verification, keep_verification, load_verification, supersedes
from strongroom.catalog import Backup, Job, now
from strongroom.catalog.find import find_job
from strongroom.errors import StorageError, StorageNotFound, StrongroomError
from strongroom.flows.site import Site
from strongroom.storage import Store
from strongroom.worker.spec import LinkResult

log = structlog.get_logger()

_LONGEST_MESSAGE = 4000


async def record(site: Site, job_id: str) -> None:
    """Keep the results of the job. The job does not fail when the store takes none: the catalog has them."""
    await asyncio.to_thread(_record, site, job_id)


async def clean(site: Site, job_id: str) -> bool:
    """The same after a verification that found damage. One that an outage ended has no results."""
    await asyncio.to_thread(_record, site, job_id)
    return False


def level_of(verified: dict[str, Any]) -> Level:
    """How closely a result of the catalog looked. Older ones do not say it."""
    if "level" in verified:
        return cast("Level", verified["level"])
    if verified.get("tables") is not None:
        return "tables"
    return "prepared" if verified["prepared"] else "content"


def take_over(row: Backup, store: Store, manifest: Manifest, sha256: str) -> None:
    """Give a backup that the catalog finds in the store the result that is kept there. What cannot be read is left out."""
    try:
        found = load_verification(store, manifest.location, sha256)
    except StorageError as error:
        log.warning("cannot read the verifications of a backup", backup=manifest.location.prefix, reason=error.message)
        return
    if found is not None:
        row.verified = _as_row(found)


def explain_broken(session: Session, broken: Mapping[str, str]) -> dict[str, str]:
    """Why each of these backups cannot be restored; ``broken`` is what ``broken_chains`` returns."""
    culprits = {row.id: row for row in session.scalars(select(Backup).where(Backup.id.in_(set(broken.values()))))}

    def explain(backup_id: str, culprit_id: str) -> str:
        row = culprits.get(culprit_id)
        if row is None:
            return f"backup {culprit_id}, on which it is based, is not in the catalog"
        who = "it" if culprit_id == backup_id else f"backup {row.name} ({row.id}), on which it is based,"
        if row.deleted is not None:
            return f"{who} is deleted"
        if row.is_damaged and row.verified is not None:
            return f"a verification found {who.rstrip(',')} damaged: {row.verified['message']}"
        return f"{who} is {row.status}"

    return {backup_id: explain(backup_id, culprit_id) for backup_id, culprit_id in broken.items()}


def _record(site: Site, job_id: str) -> None:
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        results = [LinkResult.model_validate(link) for link in job.output.get("results", [])]
        at = job.finished or now()
        todo: list[tuple[str, Verification]] = []
        for row, found in _verifications(session, site, job, results, at):
            _apply(job, row, found)
            if _is_ours(row) and found.manifest_sha256 != _UNKNOWN:
                todo.append((row.project, found))
    for project, found in todo:
        try:
            _keep(site.stores.of_project(project), found)
        except StrongroomError as error:
            log.warning("cannot store the result of a verification", backup=found.location.prefix, reason=error.message)
            _warn(site, job_id, f"the result could not be written to the store: {error.message}")
    if results:
        with site.catalog.write() as session:
            job = find_job(session, None, job_id)
            job.output = {key: value for key, value in job.output.items() if key != "results"}


_UNKNOWN = "0" * 64
"""In the place of the hash of a manifest that nobody has seen: its result is of no use in the store."""


def _verifications(
    session: Session, site: Site, job: Job, results: list[LinkResult], at: datetime
) -> list[tuple[Backup, Verification]]:
    """A result for each backup of the catalog that was looked at, the oldest first."""
    found: list[tuple[Backup, Verification]] = []
    links = raw_size = stored_size = 0
    for result in results:
        links, raw_size, stored_size = links + 1, raw_size + result.raw_size, stored_size + result.stored_size
        row = session.get(Backup, job.backup_id if result.target else result.id)
        if row is None or row.deleted is not None or not (result.target or _is_at(row, result)):
            continue
        message = result.message or "; ".join(result.warnings if not result.target else job.output.get("warnings", []))
        found.append(
            (
                row,
                Verification(
                    id=result.id if result.container else row.id,
                    container=result.container or row.container or "imported",
                    manifest_sha256=result.manifest_sha256 or _UNKNOWN,
                    job=job.id,
                    owner=site.catalog.service_id,
                    at=at,
                    ok=result.code is None,
                    level=result.level or "content",
                    links=links,
                    raw_size=raw_size,
                    stored_size=stored_size,
                    files=result.files,
                    tables=result.tables,
                    code=result.code,
                    message=message[:_LONGEST_MESSAGE] or None,
                ),
            )
        )
    return found


def _is_at(row: Backup, result: LinkResult) -> bool:
    """The backup of our own whose artifact was looked at, and not another one of the same id."""
    same = row.manifest_sha256 is None or result.manifest_sha256 in (None, row.manifest_sha256)
    return _is_ours(row) and row.container == result.container and same


def _is_ours(row: Backup) -> bool:
    """Its artifact belongs to this row, and not to the service that wrote what a record points to."""
    return row.source is None


def _apply(job: Job, row: Backup, found: Verification) -> None:
    """Change the row when the result counts; note in the job when an older one stands against it."""
    old = row.verified
    if old is None or supersedes(found.ok, found.level, old["ok"], level_of(old)):
        row.verified = _as_row(found)
        row.updated = now()
    elif not old["ok"]:
        _add_warning(
            job,
            f"an earlier verification that looked more closely ({level_of(old)}) found backup {row.name or row.id} damaged: "
            f"{old['message']}; this counts until one that looks as closely finds it good",
        )


def _as_row(found: Verification) -> dict[str, Any]:
    return {
        "at": found.at.isoformat(),
        "ok": found.ok,
        "level": found.level,
        "links": found.links,
        "raw_size": found.raw_size,
        "stored_size": found.stored_size,
        "prepared": found.level in ("prepared", "tables"),
        "tables": found.tables,
        "message": found.message,
    }


def _add_warning(job: Job, text: str) -> None:
    warnings = list(job.output.get("warnings", []))
    if text not in warnings:
        job.output = {**job.output, "warnings": [*warnings, text]}


def _warn(site: Site, job_id: str, text: str) -> None:
    with site.catalog.write() as session:
        _add_warning(find_job(session, None, job_id), text)


def _keep(store: Store, found: Verification) -> None:
    """Beside a manifest only: where there is none, there is no artifact to say something about."""
    try:
        store.head(found.location.manifest)
    except StorageNotFound:
        return
    keep_verification(store, found)
