"""The log archive of an instance, as the status shows it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Instance, LogArchive, Policy
from strongroom.catalog.policies import Database
from strongroom.flows.archives.state import find_loss
from strongroom.flows.archives.wanted import explain_absence
from strongroom.flows.site import Site
from strongroom.protection.clock import format_second
from strongroom.protection.status import Lag


class LogArchiveView(BaseModel):
    """The log archive that the policy of an instance demands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: str = Field(
        description="starting, running, waiting, stopping, stopped; empty if that is not known; none: there is none."
    )
    loss: int | None = Field(description="How much could be lost now, at most, in seconds; null: the server does not run.")
    max_loss: int = Field(description="How much may be lost, in seconds.")
    complete_until: str | None = Field(description="Everything that the server wrote until then is stored.")
    last_time: str | None = Field(description="Time of the last transaction that is stored.")
    position: str = Field(description="Where the archive ends, as the database writes it.")
    began: str | None = Field(description="Since when the log has no gap. A restore needs a backup that ended later.")
    trouble: str = Field(description="Why it does not advance, or why there is none; empty while it works.")
    remedy: str
    warnings: list[str] = Field(description="What the owner of the server should change.")


def list_archives(session: Session) -> Mapping[str, LogArchive]:
    """The archives that are wanted, by instance."""
    return {row.instance_id: row for row in session.scalars(select(LogArchive).where(LogArchive.wanted))}


def find_lag(site: Site, row: LogArchive | None, database: Database, policy: Policy | None, at: datetime) -> Lag | None:
    """How far the archive is behind; None if there is none, or if the server writes nothing."""
    if row is None or policy is None or not isinstance(database, Instance) or database.state != "running":
        return None
    return Lag(find_loss(site, row, at), policy.spec.max_loss, row.trouble, row.trouble_remedy)


def describe_archive(
    site: Site, row: LogArchive | None, database: Database, policy: Policy | None, lag: Lag | None
) -> LogArchiveView | None:
    """What the status shows; None if no archive is demanded."""
    if policy is None or not policy.spec.log_archive:
        return None
    absent = (
        "the log of a cluster cannot be archived yet" if not isinstance(database, Instance) else explain_absence(site, database)
    )
    if row is None or absent:
        return LogArchiveView(
            state="none",
            loss=None,
            max_loss=int(policy.spec.max_loss.total_seconds()),
            complete_until=None,
            last_time=None,
            position="",
            began=None,
            trouble=absent or "it has not begun yet",
            remedy="",
            warnings=[],
        )
    return LogArchiveView(
        state=row.state,
        loss=int(lag.loss.total_seconds()) if lag is not None else None,
        max_loss=int(policy.spec.max_loss.total_seconds()),
        complete_until=format_second(row.complete_until),
        last_time=format_second(row.last_time),
        position=row.position,
        began=format_second(row.began_at),
        trouble=row.trouble,
        remedy=row.trouble_remedy,
        warnings=list(row.warnings),
    )
