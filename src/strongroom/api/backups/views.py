"""Representations of backups: Trove's fields, then those of Strongroom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from sqlalchemy.orm import Session

from strongroom.api.http.fields import (
    Instant,
    Link,
    RowView,
    View,
    format_gigabytes,
    format_iso,
    format_naive,
)
from strongroom.artifact import Level, Pages
from strongroom.catalog import Backup, Expiration, Hold
from strongroom.catalog.queries import broken_chains, damaged_pages, newest_jobs
from strongroom.flows import (
    explain_broken,
    find_marks,
    level_of,
    list_holds,
    version_id,
)


class DatastoreOfBackup(View):
    """The datastore that was backed up."""

    type: str
    version: str
    version_id: str


class FaultOfBackup(View):
    """Why it failed."""

    code: str
    message: str
    remedy: str


class Verified(View):
    """The decisive verification: the newest, unless a more thorough one found damage."""

    at: str
    ok: bool = Field(description="The backup and all its ancestors are good.")
    level: Level = Field(
        description="How thorough it was: sizes of all objects; content (every byte); prepared (the chain was restored in "
        "scratch space); tables (a private server read every table there)."
    )
    links: int = Field(description="Number of verified backups of the chain.")
    stored_size: int | None = Field(description="Verified bytes in the store; null in older results.")
    prepared: bool = Field(description="The chain was also restored in scratch space.")
    tables: int | None = Field(description="Tables read by a private server; null if none was started.")
    message: str | None


class HoldView(RowView):
    """Why a backup is kept."""

    reason: str
    until: Instant | None
    held_by: str
    created: Instant | None


class BackupView(View):
    """A backup; all fields are always present."""

    id: str
    name: str
    description: str | None
    instance_id: str | None
    project_id: str
    parent_id: str | None
    status: str = Field(
        description="NEW, BUILDING, COMPLETED, FAILED; RESTORED: registered or imported; DELETING, DELETE_FAILED."
    )
    locationRef: str | None
    size: float | None = Field(description="Size of the data in GB, which a volume needs for a restore.")
    created: str
    updated: str
    datastore: DatastoreOfBackup
    instance_name: str = Field(description="Extension, like all following fields.")
    cluster_id: str | None = Field(description="The cluster, if it is a backup of one; the instance is the node.")
    kind: str = Field(description="full or incremental.")
    container: str
    chain_id: str = Field(description="Id of the full backup of its chain.")
    pages: Pages | None = Field(
        description="Result of checking the database's page checksums during the backup; null if it has none."
    )
    damaged_pages: int = Field(description="Damaged pages of the database, in this backup or an ancestor.")
    data_size: int | None = Field(description="Bytes in the data directory.")
    raw_size: int | None = Field(description="Bytes of the stream.")
    stored_size: int | None = Field(description="Bytes in the store.")
    codec: str
    encrypted: bool
    started: str | None
    finished: str | None
    seconds: float | None
    profile: dict[str, Any] | None = Field(
        description="Settings and facts of the source that a restore depends on. Null in lists, or if unknown."
    )
    reason: str | None = Field(description="Why a full backup was taken although an incremental one was requested.")
    fault: FaultOfBackup | None
    verified: Verified | None
    positions: dict[str, Any] | None = Field(description="Its position in the server's history.")
    protected: bool = Field(description="It cannot be deleted until the protection is removed.")
    restorable: bool = Field(
        description="All backups of its chain up to this one are COMPLETED or RESTORED, and no verification found damage in them."
    )
    unrestorable_reason: str | None = Field(description="Why it cannot be restored; null if it can, and while it is being taken.")
    job_id: str | None = Field(description="Its newest job.")
    sweep_at: str | None = Field(
        description="It was deleted, or no rule keeps it: not before this time, it is removed from the store. Null if it is kept."
    )
    expired_because: str | None = Field(description="Who deleted it, or which rules let it go.")
    trashed: bool = Field(description="A user deleted it: it is hidden from lists unless `trashed` is given.")
    hold: HoldView | None = Field(description="A user keeps it, and all that it is based on.")


class OneBackup(View):
    """Reply about one backup."""

    backup: BackupView


class ManyBackups(View):
    """Reply with a page of backups."""

    backups: list[BackupView]
    links: list[Link] = Field(default_factory=list)


def make_backup_views(session: Session, rows: Sequence[Backup]) -> list[BackupView]:
    jobs = newest_jobs(session, Backup, [row.id for row in rows])
    broken = broken_chains(session, [row for row in rows if row.status not in Backup.RUNNING])
    reasons = explain_broken(session, broken) if broken else {}
    damaged = damaged_pages(session, rows)
    marks, holds = find_marks(session, [row.id for row in rows]), list_holds(session)
    return [
        make_backup_view(
            row,
            jobs.get(row.id),
            restorable=row.id not in broken and row.status not in Backup.RUNNING,
            reason=reasons.get(row.id),
            is_parent_bad=broken.get(row.id, row.id) != row.id,
            damaged=damaged.get(row.id, 0),
            mark=marks.get(row.id),
            hold=holds.get(row.id),
        )
        for row in rows
    ]


def make_backup_view(
    row: Backup,
    job_id: str | None,
    *,
    restorable: bool,
    reason: str | None = None,
    is_parent_bad: bool = False,
    damaged: int = 0,
    mark: Expiration | None = None,
    hold: Hold | None = None,
) -> BackupView:
    fault, verified = row.fault, row.verified
    return BackupView(
        id=row.id,
        name=row.name,
        description=row.description,
        instance_id=row.instance_id,
        project_id=row.project,
        parent_id=row.parent_id,
        status=row.status,
        locationRef=row.location,
        size=format_gigabytes(row.data_size),
        created=format_naive(row.created),
        updated=format_naive(row.updated),
        datastore=DatastoreOfBackup(type=row.datastore, version=row.series, version_id=version_id(row.datastore, row.series)),
        instance_name=row.instance_name,
        cluster_id=row.cluster_id,
        kind=row.kind,
        container=row.container,
        chain_id=row.chain_id,
        pages=Pages.model_validate(row.pages) if row.pages else None,
        damaged_pages=damaged,
        data_size=row.data_size,
        raw_size=row.raw_size,
        stored_size=row.stored_size,
        codec=row.codec,
        encrypted=row.encrypted,
        started=format_iso(row.started),
        finished=format_iso(row.finished),
        seconds=round((row.finished - row.started).total_seconds(), 3) if row.started and row.finished else None,
        profile=None,
        reason=row.reason,
        fault=FaultOfBackup(code=fault["code"], message=fault["message"], remedy=fault.get("remedy", "")) if fault else None,
        verified=make_verified_view(verified, reason if is_parent_bad else None) if verified else None,
        positions=row.positions,
        protected=row.protected,
        restorable=restorable,
        unrestorable_reason=reason,
        job_id=job_id,
        sweep_at=format_iso(mark.sweep_at) if mark else None,
        expired_because=mark.reason if mark else None,
        trashed=row.trashed,
        hold=HoldView.of(hold) if hold else None,
    )


def make_verified_view(result: Mapping[str, Any], parent: str | None) -> Verified:
    """``parent``: why an ancestor cannot be restored, which overrides a good result."""
    return Verified(
        at=result["at"].replace("+00:00", "Z"),
        ok=result["ok"] and parent is None,
        level=level_of(dict(result)),
        links=result.get("links", 1),
        stored_size=result.get("stored_size"),
        prepared=result["prepared"],
        tables=result.get("tables"),
        message=parent if result["ok"] and parent is not None else result["message"],
    )
