"""Holds: a user keeps a backup, even if a policy or another user would remove it. ``flows/kinds/label.py`` sets and ends them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from strongroom.catalog import Backup, Hold, now
from strongroom.errors import Protected
from strongroom.flows.retention.marks import database_of
from strongroom.protection.clock import format_second

SOON = timedelta(days=7)
"""A hold that ends within this time is shown: afterwards the rules decide about the backup."""


class EndingHold(BaseModel):
    """A hold that ends soon."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backup_id: str
    backup: str = Field(description="Name of the backup.")
    until: str
    reason: str


def list_holds(session: Session) -> dict[str, Hold]:
    """All current holds, by the id of the backup. There are few."""
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
        until = format_second(hold.until)
        ending = EndingHold(backup_id=backup.id, backup=backup.name, until=until, reason=hold.reason)
        found.setdefault(database_of(backup), []).append(ending)
    return found


def refuse_if_held(session: Session, backups: Sequence[Backup]) -> None:
    """Raise Protected if one of the backups is held."""
    holds = list_holds(session)
    for backup in backups:
        if hold := holds.get(backup.id):
            who = f" by {hold.held_by}" if hold.held_by else ""
            end = f" until {hold.until:%Y-%m-%d %H:%M} UTC" if hold.until else ""
            raise Protected(
                f"backup {backup.name} ({backup.id}) is held{who}{end}: {hold.reason}",
                remedy=f"Release it first: `strongroom backup release {backup.id}`.",
            )
