"""The tables of retention: holds, expirations, removals, confirmations."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from strongroom.catalog._tables import Table, now


class Hold(Table):
    """A person keeps a backup, and with it all that it is based on."""

    __tablename__ = "holds"

    backup_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    until: Mapped[datetime | None]
    """It does not count from this time on; null: it counts until it is released."""
    held_by: Mapped[str] = mapped_column(default="")
    created: Mapped[datetime] = mapped_column(default=now)


class Expiration(Table):
    """A backup that is marked to be removed. It can be restored, and unmarked, until it is swept."""

    __tablename__ = "expirations"
    __table_args__ = (Index("expirations_database", "database_id"), Index("expirations_sweep_at", "sweep_at"))

    backup_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    database_id: Mapped[str] = mapped_column(String(36), default="")
    """The cluster or instance; empty for an imported backup."""
    by_person: Mapped[bool]
    """A person deleted it; otherwise no rule of the policy keeps it."""
    reason: Mapped[str] = mapped_column(Text)
    """Which rules let it go, or who deleted it."""
    asked_by: Mapped[str] = mapped_column(default="")
    policy: Mapped[str] = mapped_column(default="")
    policy_changed_by: Mapped[str] = mapped_column(default="")
    """Who changed the policy last."""
    marked: Mapped[datetime] = mapped_column(default=now)
    sweep_at: Mapped[datetime]
    """It is not removed before this time."""
    served: Mapped[int] = mapped_column(default=0)
    """How many seconds the service had run when it was marked: the grace period counts only those."""
    confirmed_by: Mapped[str | None]
    """Who confirmed a removal that a brake stopped."""


class Removal(Table):
    """The record of a backup that was removed. It is kept for good."""

    __tablename__ = "removals"
    __table_args__ = (Index("removals_database", "database_id", "removed"), Index("removals_project", "project", "removed"))

    backup_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project: Mapped[str]
    database_id: Mapped[str] = mapped_column(String(36), default="")
    name: Mapped[str]
    instance_name: Mapped[str] = mapped_column(default="")
    kind: Mapped[str]
    stored_size: Mapped[int | None]
    created: Mapped[datetime]
    """When the backup was requested."""
    marked: Mapped[datetime | None]
    """When it was marked; null: it was deleted at once."""
    removed: Mapped[datetime] = mapped_column(default=now)
    reason: Mapped[str] = mapped_column(Text)
    asked_by: Mapped[str] = mapped_column(default="")
    """Who deleted it, or who confirmed its removal; empty: retention did it."""
    policy: Mapped[str] = mapped_column(default="")
    policy_changed_by: Mapped[str] = mapped_column(default="")


class Confirmation(Table):
    """A person released a brake that had stopped retention."""

    __tablename__ = "confirmations"

    database_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    brake: Mapped[str] = mapped_column(primary_key=True)
    what: Mapped[str]
    """What was confirmed; the brake stops again when this is different."""
    confirmed_by: Mapped[str] = mapped_column(default="")
    created: Mapped[datetime] = mapped_column(default=now)
