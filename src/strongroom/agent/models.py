"""Bodies of the agent's HTTP API about servers and the host; jobs have theirs in ``worker.spec``."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from strongroom.artifact import Notice, Profile
from strongroom.datastores import UUID, GaleraMember, Runtime, ServerBase, Version
from strongroom.worker.duty import DutyReport
from strongroom.worker.spec import Message


class ServerDefinition(ServerBase):
    """Body of ``PUT /servers/{id}``: what the server should be. Idempotent; the agent picks the address of a process server."""

    series: str = Field(description="Series (10.11) or full version number; must be installed on this host.")
    data_dir: Path | None = Field(None, description="adopted: its data directory. Default: the one that the server reports.")
    user: str | None = Field(None, description="adopted: its OS user. Default: the owner of the data directory.")
    bootstrap_command: list[str] = Field(
        default_factory=list, description="adopted: how its owner starts it as the first node of a Galera cluster."
    )


class OldData(Message):
    """Previous data that a restore in place kept. ``name`` is a path, unless it is beside the data directory."""

    name: str
    bytes: int
    since: AwareDatetime


ServerState = Literal["new", "stopped", "starting", "running", "blocked", "standby", "swapping", "failed"]


class ServerView(Message):
    """What the agent knows of a server."""

    id: str
    name: str
    datastore: str
    series: str
    version_number: str
    runtime: Runtime
    wanted: Literal["running", "stopped"]
    state: ServerState = Field(
        description="new: no data yet; blocked: it runs but refuses the agent, or has no free connection; standby: it follows "
        "another server; failed: it died too often, or a swap needs a person."
    )
    healthy: bool = Field(description="It answers SQL.")
    detail: str = Field("", description="Why it is not healthy, or will not be soon.")
    address: str | None = None
    port: int | None = None
    socket: Path | None = None
    data_dir: Path
    data_bytes: int = 0
    wal_bytes: int | None = Field(None, description="Bytes of WAL among them, while the server answers.")
    free_bytes: int = Field(0, description="Free bytes of the file system that holds the data directory.")
    lineage: str | None = None
    pid: int | None = None
    restarts: int = 0
    old_data: list[OldData] = Field(default_factory=list)
    restore_warnings: list[str] = Field(default_factory=list, description="Reply to a swap: what the restored server lacks.")
    isolated: bool = Field(False, description="A restored copy that contacts nobody until a person activates it.")
    galera: dict[str, str] | None = None
    member: GaleraMember | None = Field(None, description="The cluster that it is a node of.")
    data_epoch: int | None = Field(None, description="Epoch of the cluster to which its data belongs.")
    job: str | None = Field(None, description="Id of the job that runs on it.")


class Swap(Message):
    """Body of ``POST /servers/{id}/swap``: make the directory that restore job ``job`` prepared the data directory, and start.

    Idempotent by ``job``: repeated, it finishes or reports what was done. If the server does not start on the new data, the
    previous data is put back and started, and ServerFailed says why.
    """

    job: str
    start: bool = Field(True, description="If false, the server stays stopped, and `swap/undo` puts the previous data back.")
    empty: bool = Field(False, description="There is no such directory: make an empty one, which another node will fill.")


class PlanRequest(Message):
    """Body of ``POST /plan``: the profile of a backup, and the target of its restore. Changes nothing."""

    profile: Profile
    datastore: str
    series: str
    server: str | None = Field(None, description="The server whose data is replaced; null for a new one.")
    in_place: bool = False
    tablespaces: list[str] = Field(default_factory=list, description="Those that get their own directory.")


class Activation(Message):
    """Reply of ``GET /servers/{id}/activation``: what an activation would enable."""

    isolated: bool
    enables: list[Notice] = Field(default_factory=list)


class Start(Message):
    """Body of ``POST /servers/{id}/start``; may be missing.

    A node of a cluster joins it, or bootstraps it: that applies to this start only and is not stored anywhere. Refused (Conflict)
    if its data belongs to another epoch than its membership, or is not at ``position``. Without ``wait``, the reply comes as soon
    as the process runs, so that nodes that wait for each other can all be started.
    """

    mode: Literal["join", "bootstrap"] = "join"
    position: str | None = Field(None, description="bootstrap: the position (uuid:seqno) at which its data must be.")
    wait: bool = True


class Seed(Message):
    """Body of ``PUT /servers/{id}/galera/seed``: give the directory that job ``job`` made the identity of a new cluster.

    With the same ``uuid``, nodes treat their data as equal and join without a state transfer. Idempotent; removes what the
    directory contains of an older cluster.
    """

    job: str
    uuid: str = Field(pattern=f"^{UUID}$")


class Canary(Message):
    """Body of ``PUT /servers/{id}/galera/canary``: a word to write, which the other nodes must be able to read."""

    word: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")


class SumTables(Message):
    """Body of ``POST /servers/{id}/galera/checksums``."""

    tables: list[str] | None = Field(None, description="As database.table; null: all that clusters replicate.")
    at: int | None = Field(None, ge=0, description="Read from one snapshot, taken after this transaction if it arrives soon.")


class RootState(Message):
    """Whether the administrator of a database can log in from other hosts."""

    enabled: bool


class RootAccount(Message):
    """Body of ``PUT /servers/{id}/root``."""

    password: str = Field(repr=False, min_length=1)


class RestorePoint(Message):
    """Body of ``POST /servers/{id}/restore-point``."""

    name: str = Field(min_length=1, max_length=255)


class HostView(Message):
    """What the agent knows of its host."""

    name: str
    hostname: str
    version: str = Field(description="Version of Strongroom.")
    cores: int
    memory_bytes: int
    free_bytes: int
    pool: str
    versions: list[Version]
    jobs_running: int
    jobs_limit: int = Field(2, ge=1, le=64, description="Jobs that it runs at a time.")
    time: AwareDatetime


class JobQuery(Message):
    """Query of ``GET /jobs/{id}``: wait until the job has more than ``after`` events or has ended."""

    wait: float = Field(0, ge=0, le=60, description="Seconds to wait at most.")
    after: int = Field(0, ge=0)


class StopQuery(Message):
    """Query of ``POST /servers/{id}/stop``."""

    kill: bool = Field(False, description="Kill a server that does not stop, unless it was adopted.")


class DatabaseQuery(Message):
    """A database of a server."""

    name: str


class AccountQuery(Message):
    """An account of a server."""

    name: str
    host: str


class GrantQuery(AccountQuery):
    """The rights of an account on a database."""

    database: str


class DutyRequest(Message):
    """Body of ``PUT /duties/{id}``: a long-lived duty of a server, as it should be. Idempotent."""

    kind: str
    server: str
    wanted: Literal["running", "stopped"] = "running"
    options: dict[str, Any] = Field(default_factory=dict, repr=False, description="What the kind needs; may hold secrets.")

    @property
    def digest(self) -> str:
        """Tells whether the options of a duty are these, without showing them."""
        salt = f"{self.kind}:{self.server}:"
        return hashlib.sha256((salt + json.dumps(self.options, sort_keys=True)).encode()).hexdigest()


DutyState = Literal["starting", "running", "waiting", "stopping", "stopped"]


class DutyView(Message):
    """What the agent knows of a duty."""

    id: str
    kind: str
    server: str
    wanted: Literal["running", "stopped"]
    state: DutyState = Field(description="waiting: it died while the agent was restarted, and needs its options again.")
    detail: str = ""
    pid: int | None = None
    restarts: int = Field(0, description="How often its process died within ten minutes.")
    report: DutyReport | None = Field(None, description="What its process reported last.")
    has_options: bool = Field(True, description="Whether the agent has its options; after a restart of the agent it has not.")
    digest: str = Field(
        "", description="``DutyRequest.digest`` of its options, or of those of its process if the agent forgot them."
    )
