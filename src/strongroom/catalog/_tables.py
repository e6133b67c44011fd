"""The tables. Times are UTC and aware; ids are UUID strings; a row that is gone has ``deleted`` set."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, DateTime, Dialect, Index, String, Text, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


def now() -> datetime:
    """The present, UTC and aware."""
    return datetime.now(UTC)


class UtcDateTime(TypeDecorator[datetime]):
    """SQLite forgets time zones: store UTC without one, give it back with one."""

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
    """A database server that people see. ``task`` is what is being done to it; ``state`` is what the agent last saw."""

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
    """The cluster of which it is a node, if it is one."""
    node: Mapped[str | None]
    """Its name in the cluster: ``node1``…"""
    galera: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What the server last said of its cluster (``wsrep_…`` status); null when it did not answer."""
    host: Mapped[str]
    runtime: Mapped[str] = mapped_column(default="process")
    datastore: Mapped[str]
    series: Mapped[str]
    version_number: Mapped[str] = mapped_column(default="")
    flavor: Mapped[str]
    volume_size: Mapped[int]
    """GB, as asked for."""
    task: Mapped[str | None]
    """BUILD, REBOOT, RESTORE, SHUTDOWN (being deleted), ERROR, or null: nothing is being done."""
    state: Mapped[str] = mapped_column(default="new")
    """The agent's word: new, stopped, starting, running, swapping, failed."""
    healthy: Mapped[bool] = mapped_column(default=False)
    detail: Mapped[str] = mapped_column(Text, default="")
    address: Mapped[str | None]
    port: Mapped[int | None]
    socket: Mapped[str | None] = mapped_column(Text)
    lineage: Mapped[str | None]
    data_bytes: Mapped[int] = mapped_column(default=0)
    wal_bytes: Mapped[int | None]
    """Of them in the WAL; null where the database has none."""
    root_enabled: Mapped[datetime | None]
    """When root was enabled first."""
    root_enabled_by: Mapped[str | None] = mapped_column(Text)
    old_data: Mapped[list[dict[str, Any]]] = mapped_column(default=list)
    isolated: Mapped[bool] = mapped_column(default=False)
    """A restored copy that contacts nobody until a person activates it."""
    protected: Mapped[bool] = mapped_column(default=False)
    """It cannot be deleted until a person takes this back; so it is for backups and clusters."""
    request: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Parts of the request that are only shown: nics, availability_zone, access."""
    fault: Mapped[dict[str, Any] | None]
    """message, details, created (ISO)."""
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)
    seen: Mapped[datetime | None]
    """When the agent last told of it."""
    deleted: Mapped[datetime | None]


class Backup(Table):
    """A backup: a request first, then what its manifest says."""

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
    )

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    project: Mapped[str]
    name: Mapped[str]
    cluster_id: Mapped[str | None] = mapped_column(String(36))
    """The cluster of which it is a backup; ``instance_id`` is the node that it was taken from."""
    description: Mapped[str | None]
    instance_id: Mapped[str | None] = mapped_column(String(36))
    instance_name: Mapped[str] = mapped_column(default="")
    container: Mapped[str]
    kind: Mapped[str]
    """full or incremental."""
    parent_id: Mapped[str | None] = mapped_column(String(36))
    chain_id: Mapped[str] = mapped_column(String(36))
    """Id of the full at the bottom of the chain; its own for a full."""
    status: Mapped[str] = mapped_column(default="NEW")
    """NEW, BUILDING, COMPLETED, RESTORED (a record of what others wrote), FAILED, DELETING, DELETE_FAILED."""
    datastore: Mapped[str]
    series: Mapped[str]
    server_version: Mapped[str | None]
    codec: Mapped[str] = mapped_column(default="zstd")
    encrypted: Mapped[bool] = mapped_column(default=False)
    location: Mapped[str | None] = mapped_column(Text)
    source: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What was written elsewhere and is only pointed to (``flows._source.Source``); null: our own, in container/id."""
    lineage: Mapped[str | None]
    positions: Mapped[dict[str, Any] | None]
    pages: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What the checksums of its pages said when it was taken (``artifact.Pages``)."""
    manifest_sha256: Mapped[str | None] = mapped_column(String(64))
    """Of the manifest in the store: nobody who writes there can exchange the backup. Null in older ones."""
    profile: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What a restore depends on at the source (``artifact.Profile``); null in older and in imported backups."""
    witness: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """Proof for the next incremental (``artifact.Witness``)."""
    data_size: Mapped[int | None]
    raw_size: Mapped[int | None]
    stored_size: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(Text)
    """Why a full was taken where an incremental was asked for."""
    fault: Mapped[dict[str, Any] | None]
    """code, message, remedy."""
    verified: Mapped[dict[str, Any] | None]
    """at (ISO), ok, prepared, message."""
    protected: Mapped[bool] = mapped_column(default=False)
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)
    started: Mapped[datetime | None]
    finished: Mapped[datetime | None]
    deleted: Mapped[datetime | None]

    RUNNING = ("NEW", "BUILDING")
    RESTORABLE = ("COMPLETED", "RESTORED")

    @property
    def is_damaged(self) -> bool:
        """The newest verification found damage."""
        return self.verified is not None and not self.verified["ok"]


class Job(Table):
    """Something long that was asked for. The flow executes it; this row is what people see."""

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
    """create, adopt, restore, backup, verify, import, start, stop, restart, resize, delete_instance, discard_old, activate,
    delete_backup, rebuild; of clusters: cluster_create, cluster_adopt, cluster_restore, cluster_recover, cluster_restart,
    cluster_activate, cluster_discard_old, cluster_delete, and prepare, the part of a cluster_restore that one node does."""
    status: Mapped[str] = mapped_column(default="queued")
    """queued, running, succeeded, failed, cancelled."""
    host: Mapped[str | None]
    instance_id: Mapped[str | None] = mapped_column(String(36))
    instance_name: Mapped[str] = mapped_column(default="")
    """Or that of the cluster."""
    cluster_id: Mapped[str | None] = mapped_column(String(36))
    """The cluster that it is about: nothing else is done to it meanwhile."""
    backup_id: Mapped[str | None] = mapped_column(String(36))
    params: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """What the flow needs beside the ids; never a secret."""
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
    """The user who asked for it; empty where the service did, and in older ones."""
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
    """What its name on the wire begins with."""
    epoch: Mapped[int] = mapped_column(default=1)
    """Counts its restores; the other half of the name, so that a node with older data can never join."""
    state_uuid: Mapped[str | None] = mapped_column(String(36))
    """Identity of its history, as last seen while it was whole."""
    task: Mapped[str | None]
    """BUILDING, RESTORING, RECOVERING, RESTARTING, DELETING, ERROR, or null: nothing is being done."""
    fault: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """message, details, created (ISO)."""
    protected: Mapped[bool] = mapped_column(default=False)
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)
    deleted: Mapped[datetime | None]


class Run(Table):
    """The journal of a cluster that gets data, new or restored: written before and after each thing that is done to a node."""

    __tablename__ = "cluster_runs"
    __table_args__ = (Index("cluster_runs_cluster", "cluster_id", "created"),)

    id: Mapped[str] = mapped_column(String(36), primary_key=True)
    """Id of the job that began it; in the names of the directories on the nodes."""
    cluster_id: Mapped[str] = mapped_column(String(36))
    backup_id: Mapped[str | None] = mapped_column(String(36))
    phase: Mapped[str] = mapped_column(default="prepare")
    """prepare, seed, stop, swap, bootstrap, join, check, done: what is to be done next; undone when all was put back."""
    method: Mapped[str] = mapped_column(default="seed")
    """seed: each node gets the backup; sst: one gets it, the others have it sent by the cluster."""
    nodes: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """Id of the instance → job (that prepares it), data (name of what is swapped in), and what was done: swapped, joined."""
    facts: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """uuid and position of the new history, the epoch before, times (ISO): stopped, serving."""
    created: Mapped[datetime] = mapped_column(default=now)
    updated: Mapped[datetime] = mapped_column(default=now)

    OVER = ("done", "undone")
    REVERSIBLE = ("prepare", "seed", "stop", "swap", "bootstrap")


class Strategy(Table):
    """The container that backups of an instance, or of a whole project (``instance_id`` empty), go to."""

    __tablename__ = "strategies"

    project: Mapped[str] = mapped_column(primary_key=True)
    instance_id: Mapped[str] = mapped_column(String(36), primary_key=True, default="")
    container: Mapped[str]
    created: Mapped[datetime] = mapped_column(default=now)


class Quota(Table):
    """A limit that a project was given; without a row the configuration's holds. -1: no limit."""

    __tablename__ = "quotas"

    project: Mapped[str] = mapped_column(primary_key=True)
    resource: Mapped[str] = mapped_column(primary_key=True)
    """instances, ram (MB), volumes (GB), backups."""
    hard_limit: Mapped[int]


class Host(Table):
    """A machine with an agent, as last seen."""

    __tablename__ = "hosts"

    name: Mapped[str] = mapped_column(primary_key=True)
    view: Mapped[dict[str, Any]] = mapped_column(default=dict)
    """The agent's HostView."""
    seen: Mapped[datetime | None]
    url: Mapped[str | None]
    """Where its agent listens; null: it is embedded, or has not joined."""
    certificate: Mapped[str | None] = mapped_column(Text)
    """That of its agent, in PEM."""
    token_key: Mapped[str | None]
    """Of the one-time token with which it may join (``agent.joining.Token.key``)."""
    token_until: Mapped[datetime | None]


class Fact(Table):
    """A fact about the service itself: its id."""

    __tablename__ = "facts"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str] = mapped_column(Text)
