"""The results of verify jobs. They are kept in the catalog, and in the store beside each verified backup.

A result in the store survives the loss of the catalog. The result of a parent applies to all backups that are based on it:
``broken_chains`` follows the chain, so nothing is copied to children.
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
    """Keep the results of the job. The job does not fail if they cannot be stored beside the backups: the catalog has them."""
    await asyncio.to_thread(_record, site, job_id)


async def clean(site: Site, job_id: str) -> bool:
    """Keep the results of a job that found damage. A job that failed because of an outage has no results."""
    await asyncio.to_thread(_record, site, job_id)
    return False


def level_of(verified: dict[str, Any]) -> Level:
    """The level of a result in the catalog. Older results do not contain it."""
    if "level" in verified:
        return cast("Level", verified["level"])
    if verified.get("tables") is not None:
        return "tables"
    return "prepared" if verified["prepared"] else "content"


def take_over(row: Backup, store: Store, manifest: Manifest, sha256: str) -> None:
    """Set the stored result of a backup that was found in the store. A result that cannot be read is ignored."""
    try:
        found = load_verification(store, manifest.location, sha256)
    except StorageError as error:
        log.warning("cannot read the verifications of a backup", backup=manifest.location.prefix, reason=error.message)
        return
    if found is not None:
        row.verified = _as_row(found)


def explain_broken(session: Session, broken: Mapping[str, str]) -> dict[str, str]:
    """Why each of these backups cannot be restored; ``broken`` is what ``broken_chains`` returns."""
    causes = {row.id: row for row in session.scalars(select(Backup).where(Backup.id.in_(set(broken.values()))))}

    def explain(backup_id: str, cause_id: str) -> str:
        row = causes.get(cause_id)
        if row is None:
            return f"backup {cause_id}, on which it is based, is not in the catalog"
        who = "it" if cause_id == backup_id else f"backup {row.name} ({row.id}), on which it is based,"
        if row.deleted is not None:
            return f"{who} is deleted"
        if row.is_damaged and row.verified is not None:
            return f"a verification found {who.rstrip(',')} damaged: {row.verified['message']}"
        return f"{who} is {row.status}"

    return {backup_id: explain(backup_id, cause_id) for backup_id, cause_id in broken.items()}


def _record(site: Site, job_id: str) -> None:
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        results = [LinkResult.model_validate(link) for link in job.output.get("results", [])]
        at = job.finished or now()
        todo: list[tuple[str, Verification]] = []
        for row, found in _verifications(session, site, job, results, at):
            _apply(job, row, found)
            if _has_artifact(row) and found.manifest_sha256 != _UNKNOWN:
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
"""Replaces the hash of a manifest that was never read. Its result is not stored beside the backup."""


def _verifications(
    session: Session, site: Site, job: Job, results: list[LinkResult], at: datetime
) -> list[tuple[Backup, Verification]]:
    """A result for each verified backup in the catalog, oldest first."""
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
    """Whether the row is that of the verified artifact, and not of another one with the same id."""
    same = row.manifest_sha256 is None or result.manifest_sha256 in (None, row.manifest_sha256)
    return _has_artifact(row) and row.container == result.container and same


def _has_artifact(row: Backup) -> bool:
    """Whether the backup has its own artifact, and does not refer to that of another service or program."""
    return row.source is None


def _apply(job: Job, row: Backup, found: Verification) -> None:
    """Update the row if the result supersedes the previous one; otherwise warn in the job if they contradict."""
    old = row.verified
    if old is None or supersedes(found.ok, found.level, old["ok"], level_of(old)):
        row.verified = _as_row(found)
        row.updated = now()
    elif not old["ok"]:
        _add_warning(
            job,
            f"an earlier, more thorough verification ({level_of(old)}) found backup {row.name or row.id} damaged: "
            f"{old['message']}; this result remains valid until an equally thorough verification succeeds",
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
    """Store the result beside the manifest. Without a manifest, there is no artifact to which it applies."""
    try:
        store.head(found.location.manifest)
    except StorageNotFound:
        return
    keep_verification(store, found)
