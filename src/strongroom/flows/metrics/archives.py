"""Log archives in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Instance, LogArchive
from strongroom.flows.archives.state import find_loss
from strongroom.flows.site import Site


@dataclass(frozen=True, slots=True)
class ArchiveRow:
    """The log archive of an instance that a policy wants."""

    database_id: str
    is_running: bool
    """Its duty runs and reports no trouble."""
    lag: timedelta | None
    """How much could be lost now, at most; None while the server does not run, and so writes nothing."""
    complete_until: datetime | None
    """Everything that the server wrote until then is stored."""


def list_log_archives(session: Session, site: Site, at: datetime) -> list[ArchiveRow]:
    """The log archives of all existing instances."""
    rows = (
        select(LogArchive, Instance.state)
        .join(Instance, Instance.id == LogArchive.instance_id)
        .where(LogArchive.wanted, Instance.deleted.is_(None))
    )
    return [
        ArchiveRow(
            database_id=archive.database_id,
            is_running=archive.state == "running" and not archive.trouble,
            lag=find_loss(site, archive, at) if state == "running" else None,
            complete_until=archive.complete_until,
        )
        for archive, state in session.execute(rows)
    ]
