"""The tables. Times are aware and in UTC; ids are UUID strings; ``deleted`` is the time at which a resource was deleted."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Index, String, Text, text
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


def now() -> datetime:
    """The current time, aware and in UTC."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """SQLite keeps no time zones: stores times in UTC without a time zone, and returns aware ones."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.astimezone(UTC).replace(tzinfo=None) if value else None

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value else None


class Table(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[dict[str, Any]]: JSON,
        int: BigInteger,
        str: String(255),
    }


class Instance(Table):
    """A managed database server. ``task`` is the current operation; ``state`` is what the agent last reported."""

    __tablename__ = "instances"
    __table_args__ = (
        Index("instances_project_name", "project", "name"),
        Index("instances_project_created", "project", "created", "id"),
        Index("instances_cluster", "cluster_id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project: Mapped[str]
    name: Mapped[str]
    cluster_id: Mapped[str | None] = mapped_column(String(36))
    """The cluster of which it is a node, if any."""
    node: Mapped[str | None]
    """Its name in the cluster: ``node1``…"""
    galera: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The last known ``wsrep_…`` status of the server; null if it did not answer."""
    host: Mapped[str]
    runtime: Mapped[str] = mapped_column(default="process")
    datastore: Mapped[str]
    series: Mapped[str]
    version_number: Mapped[str] = mapped_column(default="")
    flavor: Mapped[str]
    volume_size: Mapped[int]
    """GB, as requested."""
    task: Mapped[str | None]
    """BUILD, REBOOT, RESTORE, SHUTDOWN (being deleted), ERROR, or null if there is no operation."""
    state: Mapped[str] = mapped_column(default="new")
    """As the agent reports it: new, stopped, starting, running, swapping, failed."""
    healthy: Mapped[bool] = mapped_column(default=False)
    detail: Mapped[str] = mapped_column(Text, default="")
    address: Mapped[str | None]
    port: Mapped[int | None]
    socket: Mapped[str | None] = mapped_column(Text)
    lineage: Mapped[str | None]
    data_bytes: Mapped[int] = mapped_column(default=0)
    wal_bytes: Mapped[int | None]
    """The part of ``data_bytes`` that is WAL; null if the database has none."""
    root_enabled: Mapped[datetime | None]
    """When root was first enabled."""
    root_enabled_by: Mapped[str | None] = mapped_column(Text)
    old_data: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    isolated: Mapped[bool] = mapped_column(default=False)
    """A restored copy that opens no connections to other servers until a user activates it."""
    protected: Mapped[bool] = mapped_column(default=False)
    """It cannot be deleted until a user removes the protection. The same applies to backups and clusters."""
    request: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Parts of the request that are only displayed: nics, availability_zone, access."""
    fault: Mapped[dict[str, Any] | None]
    """message, details, created (ISO)."""
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)
    seen: Mapped[datetime | None]
    """When the agent last reported it."""
    deleted: Mapped[datetime | None]

    @hybrid_property
    def is_adopted(self) -> bool:
        """Whether its owner set its server up."""
        return self.runtime != "process"


class Backup(Table):
    """A backup: at first the request, later the content of its manifest."""

    __tablename__ = "backups"
    __table_args__ = (
        Index("backups_project_name", "project", "name"),
        Index("backups_project_created", "project", "created", "id"),
        Index("backups_created", "created", "id"),
        Index("backups_instance", "instance_id", "created", "id"),
        Index("backups_parent", "parent_id"),
        Index("backups_chain", "chain_id"),
        Index("backups_status", "status"),
        Index("backups_cluster", "cluster_id"),
        Index("backups_updated", "updated"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project: Mapped[str]
    name: Mapped[str]
    cluster_id: Mapped[str | None] = mapped_column(String(36))
    """The cluster that was backed up; ``instance_id`` is the node on which the backup was taken."""
    description: Mapped[str | None]
    instance_id: Mapped[str | None] = mapped_column(String(36))
    instance_name: Mapped[str] = mapped_column(default="")
    container: Mapped[str]
    kind: Mapped[str]
    """full or incremental."""
    parent_id: Mapped[str | None] = mapped_column(String(36))
    chain_id: Mapped[str] = mapped_column(String(36))
    """Id of the full backup at the base of the chain; for a full backup, its own id."""
    status: Mapped[str] = mapped_column(default="NEW")
    """NEW, BUILDING, COMPLETED, RESTORED (an imported backup, as in Trove), FAILED, DELETING, DELETE_FAILED."""
    datastore: Mapped[str]
    series: Mapped[str]
    server_version: Mapped[str | None]
    codec: Mapped[str] = mapped_column(default="zstd")
    encrypted: Mapped[bool] = mapped_column(default=False)
    location: Mapped[str | None] = mapped_column(Text)
    source: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Where an imported backup is stored (``flows.backups.sources.Source``); null: this service wrote it, to container/id."""
    lineage: Mapped[str | None]
    positions: Mapped[dict[str, Any] | None]
    pages: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """The result of checking page checksums when the backup was taken (``artifact.Pages``)."""
    manifest_sha256: Mapped[str | None] = mapped_column(String(64))
    """Hash of the manifest in the store. It detects if someone replaces the backup there. Null for older backups."""
    profile: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Properties of the source server that a restore depends on (``artifact.Profile``); null for older and imported backups."""
    witness: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Proves to the next incremental that the server's history is unchanged (``artifact.Witness``)."""
    data_size: Mapped[int | None]
    raw_size: Mapped[int | None]
    stored_size: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(Text)
    """Why a full backup was taken although an incremental was requested."""
    fault: Mapped[dict[str, Any] | None]
    """code, message, remedy."""
    verified: Mapped[dict[str, Any] | None]
    """at (ISO), ok, prepared, message."""
    protected: Mapped[bool] = mapped_column(default=False)
    trashed: Mapped[bool] = mapped_column(default=False)
    """A person deleted it. It is in the store until it is swept (``Expiration``), and hidden from Trove's clients."""
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)
    started: Mapped[datetime | None]
    finished: Mapped[datetime | None]
    deleted: Mapped[datetime | None]

    RUNNING = ("NEW", "BUILDING")
    RESTORABLE = ("COMPLETED", "RESTORED")

    @property
    def is_damaged(self) -> bool:
        """Whether the newest verification found damage."""
        return self.verified is not None and not self.verified["ok"]


class Job(Table):
    """A long operation. A flow executes it; this row is what users see."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("jobs_project", "project", "created", "id"),
        Index("jobs_instance", "instance_id", "created", "id"),
        Index("jobs_backup", "backup_id", "created", "id"),
        Index("jobs_cluster", "cluster_id", "created", "id"),
        Index("jobs_unfinished", "status", sqlite_where=text("finished is null"), postgresql_where=text("finished is null")),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project: Mapped[str]
    kind: Mapped[str]
    """The name of a ``JobKind`` in ``flows/kinds``."""
    status: Mapped[str] = mapped_column(default="queued")
    """queued, running, succeeded, failed, cancelled."""
    host: Mapped[str | None]
    instance_id: Mapped[str | None] = mapped_column(String(36))
    instance_name: Mapped[str] = mapped_column(default="")
    """The name of the instance or of the cluster."""
    cluster_id: Mapped[str | None] = mapped_column(String(36))
    """The cluster on which it works. A cluster has only one unfinished job."""
    backup_id: Mapped[str | None] = mapped_column(String(36))
    params: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Parameters of the flow besides the ids; never a secret."""
    attempts: Mapped[int] = mapped_column(default=0)
    cancel: Mapped[bool] = mapped_column(default=False)
    phase: Mapped[str] = mapped_column(default="")
    done: Mapped[int] = mapped_column(default=0)
    total: Mapped[int | None]
    stored: Mapped[int] = mapped_column(default=0)
    message: Mapped[str | None] = mapped_column(Text)
    events: Mapped[int] = mapped_column(default=0)
    fault: Mapped[dict[str, Any] | None]
    output: Mapped[dict[str, Any]] = mapped_column(default=dict)
    asked_by: Mapped[str] = mapped_column(default="")
    """The user who requested it; empty if the service did, and for older jobs."""
    created: Mapped[datetime] = mapped_column(default=now)
    started: Mapped[datetime | None]
    finished: Mapped[datetime | None]

    UNFINISHED = ("queued", "running")


class Cluster(Table):
    """A Galera cluster; its nodes are instances. One job at a time works on it."""

    __tablename__ = "clusters"
    __table_args__ = (
        Index("clusters_project_name", "project", "name"),
        Index("clusters_project_created", "project", "created", "id"),
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project: Mapped[str]
    name: Mapped[str]
    runtime: Mapped[str] = mapped_column(default="process")
    datastore: Mapped[str]
    series: Mapped[str]
    wsrep_name: Mapped[str]
    """The beginning of the name that its nodes use (``wsrep_cluster_name``)."""
    epoch: Mapped[int] = mapped_column(default=1)
    """Counts its restores; the end of the name that its nodes use, so that a node with older data can never join."""
    state_uuid: Mapped[str | None] = mapped_column(String(36))
    """The UUID of its history when it was last complete."""
    task: Mapped[str | None]
    """BUILDING, RESTORING, RECOVERING, RESTARTING, DELETING, ERROR, or null if there is no operation."""
    fault: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """message, details, created (ISO)."""
    protected: Mapped[bool] = mapped_column(default=False)
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)
    deleted: Mapped[datetime | None]

    @hybrid_property
    def is_adopted(self) -> bool:
        """Whether their owner set its servers up."""
        return self.runtime != "process"


class Run(Table):
    """The journal of a cluster's creation or restore. It is written before and after each step on a node."""

    __tablename__ = "cluster_runs"
    __table_args__ = (Index("cluster_runs_cluster", "cluster_id", "created"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """Id of the job that began it. It is part of the names of the directories on the nodes."""
    cluster_id: Mapped[str] = mapped_column(String(36))
    backup_id: Mapped[str | None] = mapped_column(String(36))
    phase: Mapped[str] = mapped_column(default="prepare")
    """A phase of ``flows.clusters.phases``; then done, or undone if everything was rolled back."""
    method: Mapped[str] = mapped_column(default="seed")
    """seed: every node gets the backup; sst: one node gets it, and the cluster sends it to the others."""
    nodes: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Id of the instance → ``flows.clusters.run.NodeNotes``."""
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """``flows.clusters.run.Facts``."""
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)

    OVER = ("done", "undone")


class Strategy(Table):
    """The container for backups of an instance, or of all instances of a project (``instance_id`` empty)."""

    __tablename__ = "strategies"

    project: Mapped[str] = mapped_column(primary_key=True)
    instance_id: Mapped[str] = mapped_column(String(36), primary_key=True, default="")
    container: Mapped[str]
    created: Mapped[datetime] = mapped_column(default=now)


class Quota(Table):
    """A limit of a project. Without a row, the limit of the configuration applies. -1: no limit."""

    __tablename__ = "quotas"

    project: Mapped[str] = mapped_column(primary_key=True)
    resource: Mapped[str] = mapped_column(primary_key=True)
    """instances, ram (MB), volumes (GB), backups."""
    hard_limit: Mapped[int]


class Host(Table):
    """A machine with an agent, as last reported."""

    __tablename__ = "hosts"

    name: Mapped[str] = mapped_column(primary_key=True)
    view: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The agent's HostView."""
    seen: Mapped[datetime | None]
    url: Mapped[str | None]
    """Where its agent listens; null if the agent is embedded in the service or has not joined."""
    certificate: Mapped[str | None] = mapped_column(Text)
    """The certificate of its agent, in PEM."""
    token_key: Mapped[str | None]
    """Key of the one-time token with which it may join (``agent.joining.Token.key``)."""
    token_until: Mapped[datetime | None]


class Fact(Table):
    """A property of the service itself, such as its id."""

    __tablename__ = "facts"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(Text)
