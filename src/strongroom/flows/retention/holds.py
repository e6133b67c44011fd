"""Holds: a person keeps a backup, whatever a policy or another person wants."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Hold, now
from strongroom.catalog.find import ancestors_of, find_backup
from strongroom.errors import Busy, Conflict, InvalidRequest, Protected
from strongroom.flows.retention.marks import database_of, unmark
from strongroom.flows.site import Site
from strongroom.identity import asker

SOON = timedelta(days=7)
"""A hold that ends within this time is shown: afterwards the rules decide about the backup."""


class EndingHold(BaseModel):
    """A hold that ends soon."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backup_id: str
    backup: str = Field(description="Name of the backup.")
    until: str
    reason: str


def hold_backup(site: Site, project: str, backup: str, *, reason: str, until: datetime | None = None) -> Hold:
    """Keep the backup, and all that it is based on, until the time or until it is released. A second hold replaces the first.

    Removes the mark of an expired or deleted backup. Decided in one transaction: when a sweep began before, the hold is refused.
    Raises NotFound, InvalidRequest, Busy, Conflict.
    """
    if not reason.strip():
        raise InvalidRequest("a hold needs a reason", remedy="Say why the backup is kept, for example --reason 'audit 2026'.")
    if until is not None and until <= now():
        raise InvalidRequest(f"{until:%Y-%m-%d %H:%M} UTC has passed", remedy="Choose a later end, or none.")
    with site.catalog.write() as session:
        row = find_backup(session, project, backup)
        chain = [row, *ancestors_of(session, row)]
        for link in chain:
            if link.status in ("DELETING", "DELETE_FAILED"):
                raise Busy(f"backup {link.name} ({link.id}) is being deleted; it is too late to hold it")
        if row.status == "FAILED":
            raise Conflict(
                f"backup {row.name} ({row.id}) failed; there is nothing to keep", remedy="Hold a backup that can be restored."
            )
        unmark(session, chain)
        row.updated = now()
        return session.merge(Hold(backup_id=row.id, reason=reason.strip(), until=until, held_by=asker.get()[:255], created=now()))


def release_backup(site: Site, project: str, backup: str) -> None:
    """End the hold of a backup. Raises NotFound."""
    with site.catalog.write() as session:
        row = find_backup(session, project, backup)
        hold = session.get(Hold, row.id)
        if hold is not None:
            session.delete(hold)
            row.updated = now()


def list_holds(session: Session) -> dict[str, Hold]:
    """All holds that count now, by the id of the backup. There are few."""
    at = now()
    return {hold.backup_id: hold for hold in session.scalars(select(Hold)) if hold.until is None or hold.until > at}


def list_ending_holds(session: Session, database_id: str | None = None) -> dict[str, list[EndingHold]]:
    """The holds that end soon, by database: of one, or of all."""
    at = now()
    query = select(Hold, Backup).join(Backup, Backup.id == Hold.backup_id)
    query = query.where(Hold.until > at, Hold.until <= at + SOON, Backup.deleted.is_(None)).order_by(Hold.until)
    if database_id is not None:
        query = query.where(or_(Backup.cluster_id == database_id, Backup.instance_id == database_id))
    found: dict[str, list[EndingHold]] = {}
    for hold, backup in session.execute(query):
        assert hold.until is not None
        until = hold.until.isoformat(timespec="seconds").replace("+00:00", "Z")
        ending = EndingHold(backup_id=backup.id, backup=backup.name, until=until, reason=hold.reason)
        found.setdefault(database_of(backup), []).append(ending)
    return found


def refuse_if_held(session: Session, backups: Sequence[Backup]) -> None:
    """Raise Protected when a person holds one of the backups."""
    holds = list_holds(session)
    for backup in backups:
        if hold := holds.get(backup.id):
            who = f" by {hold.held_by}" if hold.held_by else ""
            end = f" until {hold.until:%Y-%m-%d %H:%M} UTC" if hold.until else ""
            raise Protected(
                f"backup {backup.name} ({backup.id}) is held{who}{end}: {hold.reason}",
                remedy=f"Release it first: `strongroom backup release {backup.id}`.",
            )
