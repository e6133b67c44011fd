"""The tables of policies: their attachments, the progress of their schedules, their runs, and incidents.

A *database* is an instance or a cluster, but not a node of a cluster.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Index, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from strongroom.catalog._tables import Table, now
from strongroom.protection.policy import STORED, PolicySpec
from strongroom.protection.runs import Plan


class Policy(Table):
    """What happens automatically to the databases to which it is attached."""

    __tablename__ = "policies"
    __table_args__ = (UniqueConstraint("project", "name", name="policies_project_name"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project: Mapped[str]
    name: Mapped[str]
    document: Mapped[dict[str, Any]]
    """A dumped ``PolicySpec``."""
    declared: Mapped[bool] = mapped_column(default=False)
    """The configuration file declares it: users cannot change it."""
    anchor: Mapped[datetime] = mapped_column(default=now)
    """When its schedules were last changed: intervals count from here."""
    paused: Mapped[datetime | None]
    """Since when its schedules are paused."""
    paused_by: Mapped[str] = mapped_column(default="")
    paused_reason: Mapped[str] = mapped_column(default="")
    paused_until: Mapped[datetime | None]
    created: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[str] = mapped_column(default="")
    updated: Mapped[datetime] = mapped_column(default=now)
    updated_by: Mapped[str] = mapped_column(default="")

    @property
    def spec(self) -> PolicySpec:
        """Its settings."""
        return PolicySpec.model_validate(self.document, context=STORED)

    @property
    def plan(self) -> Plan:
        """Its schedules. Raises InvalidRequest if the time zone does not exist any more."""
        return self.spec.plan(self.anchor)

    def is_paused(self, at: datetime) -> bool:
        """Whether its schedules are paused at this time."""
        return self.paused is not None and (self.paused_until is None or at < self.paused_until)


class Attachment(Table):
    """The policy of a database, or of all databases of a project without one of their own (``database_id`` empty).

    It outlives the database, whose backups follow its last policy.
    """

    __tablename__ = "policy_attachments"
    __table_args__ = (Index("policy_attachments_policy", "policy_id"),)

    project: Mapped[str] = mapped_column(primary_key=True)
    database_id: Mapped[str] = mapped_column(String(36), primary_key=True, default="")
    """Id of the instance or cluster."""
    policy_id: Mapped[str] = mapped_column(String(36))
    created: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[str] = mapped_column(default="")


class Schedule(Table):
    """The progress of a policy's schedules for one database."""

    __tablename__ = "schedules"
    __table_args__ = (Index("schedules_wake", "wake"), Index("schedules_policy", "policy_id"))

    database_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    policy_id: Mapped[str] = mapped_column(String(36))
    project: Mapped[str]
    handled: Mapped[datetime]
    """All nominal times up to this one have been handled."""
    wake: Mapped[datetime | None]
    """When to evaluate it again; null: no schedule."""
    first: Mapped[datetime | None]
    """Nominal time of the first full of a database without a backup, until it is taken."""
    full_owed: Mapped[bool] = mapped_column(default=False)
    """A full was due but not taken, so the next run is a full."""
    run_id: Mapped[str | None] = mapped_column(String(36))
    """The run that has not ended."""
    retry: Mapped[datetime | None]
    """When the next attempt of that run begins."""
    skipped: Mapped[int] = mapped_column(default=0)
    """Number of consecutive runs that were skipped because the previous one had not ended."""
    waiting: Mapped[str] = mapped_column(Text, default="")
    """Why a due run has not begun yet."""


class PolicyRun(Table):
    """One occurrence of a schedule for one database, or several consecutive ones that were missed for the same reason."""

    __tablename__ = "policy_runs"
    __table_args__ = (
        Index("policy_runs_database", "database_id", "nominal"),
        Index("policy_runs_backup", "backup_id"),
        Index("policy_runs_project", "project", "nominal"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """Derived from policy, database and nominal time (``protection.runs.run_id``), so that a run exists only once."""
    project: Mapped[str]
    policy_id: Mapped[str] = mapped_column(String(36))
    database_id: Mapped[str] = mapped_column(String(36))
    nominal: Mapped[datetime]
    """When it was due; of several, the first."""
    last: Mapped[datetime]
    """When the last of several was due."""
    count: Mapped[int] = mapped_column(default=1)
    kind: Mapped[str] = mapped_column(default="incremental")
    """full or incremental, by the schedule. The backup has the kind that was taken."""
    outcome: Mapped[str] = mapped_column(default="running")
    """running, succeeded, failed, cancelled, missed."""
    reason: Mapped[str] = mapped_column(Text, default="")
    """Why it was missed or failed."""
    by_hand: Mapped[bool] = mapped_column(default=False)
    """A user requested it, in addition to the schedule."""
    attempts: Mapped[int] = mapped_column(default=0)
    job_id: Mapped[str | None] = mapped_column(String(36))
    """Of the newest attempt (``protection.runs.job_id``)."""
    backup_id: Mapped[str | None] = mapped_column(String(36))
    """Of the newest attempt."""
    created: Mapped[datetime] = mapped_column(default=now)
    finished: Mapped[datetime | None]


class Incident(Table):
    """A condition of one database that a user should know, from its detection until its end."""

    __tablename__ = "incidents"
    __table_args__ = (
        Index(
            "incidents_open",
            "database_id",
            "condition",
            unique=True,
            sqlite_where=text("closed is null"),
            postgresql_where=text("closed is null"),
        ),
        Index("incidents_project", "project", "opened"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project: Mapped[str]
    database_id: Mapped[str] = mapped_column(String(36))
    database_name: Mapped[str]
    condition: Mapped[str]
    """A ``protection.status.Condition``, or another word such as ``stuck``."""
    detail: Mapped[str] = mapped_column(Text)
    remedy: Mapped[str] = mapped_column(Text, default="")
    opened: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)
    closed: Mapped[datetime | None]
