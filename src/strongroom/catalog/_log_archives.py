"""The table of log archives."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import JSON, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from strongroom.catalog._tables import Table, now


class LogArchive(Table):
    """The log archive of an instance, as its duty last reported it. It exists as long as the store has a log of the instance.

    Times are those of the host, unless noted otherwise.
    """

    __tablename__ = "log_archives"
    __table_args__ = (Index("log_archives_database", "database_id"), Index("log_archives_project", "project"))

    instance_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project: Mapped[str]
    database_id: Mapped[str] = mapped_column(String(36))
    """The cluster or the instance itself."""
    host: Mapped[str]
    wanted: Mapped[bool] = mapped_column(default=True)
    """A policy wants it."""
    released: Mapped[bool] = mapped_column(default=False)
    """It is not wanted any more, and neither its duty nor its slot are left."""
    wanted_since: Mapped[datetime] = mapped_column(default=now)
    """By the clock of the service."""
    state: Mapped[str] = mapped_column(default="")
    """Of the duty, as the agent reports it: starting, running, waiting, stopping, stopped."""
    trouble: Mapped[str] = mapped_column(Text, default="")
    """Why it does not advance; empty while it works."""
    trouble_remedy: Mapped[str] = mapped_column(Text, default="")
    trouble_since: Mapped[datetime | None]
    """By the clock of the service."""
    has_failed: Mapped[bool] = mapped_column(default=False)
    """The duty ended by an error that it cannot repair."""
    warnings: Mapped[list[str]] = mapped_column(JSON, default=list)
    """What the owner of the server should change."""
    reported: Mapped[datetime | None]
    """When the duty reported last."""
    seen: Mapped[datetime | None]
    """When the service got the last new report, by its own clock."""
    loss: Mapped[float | None]
    """Seconds that could be lost when it was seen; null: that is not known."""
    position: Mapped[str] = mapped_column(Text, default="")
    last_time: Mapped[datetime | None]
    """Of the last transaction that is stored."""
    complete_until: Mapped[datetime | None]
    """Everything that the server wrote until then is stored."""
    series: Mapped[int | None]
    began: Mapped[str] = mapped_column(default="")
    """Why the uninterrupted part of the log began that ends now, as in ``archive.Series``."""
    began_reason: Mapped[str] = mapped_column(Text, default="")
    began_at: Mapped[datetime | None]
    """When it began: only backups that end later can use it. Null: that is not known yet."""
    backup_at: Mapped[datetime | None]
    """When a backup was begun for it, by the clock of the service."""
