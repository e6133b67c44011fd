"""Galera clusters: what a node is told to be, what it says of itself, and where its data stands."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from pydantic import Field

from strongroom.datastores.protocol.strict import Strict

if TYPE_CHECKING:
    from strongroom.datastores.protocol.servers import Server

UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
NO_UUID = "00000000-0000-0000-0000-000000000000"
REMEDY = (
    "Install galera-4 and mariadb-server, "
    "or name a directory with the scripts, which the servers can read, in [datastores] mariadb."
)
PROGRAMS = {"galera": "the library of galera-4", "transfer": "the scripts wsrep_sst_* of mariadb-server"}


def lacking(programs: Container[str]) -> list[str]:
    """What an installation with these programs, by role, lacks for nodes of clusters. Without scripts no gap can be closed."""
    return [what for role, what in PROGRAMS.items() if role not in programs]


class GaleraMember(Strict):
    """A server's place in a Galera cluster."""

    cluster: str = Field(pattern=r"^[A-Za-z0-9._-]{1,32}$", description="Name that nodes must agree on to see each other.")
    node: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Name of this node.")
    epoch: int = Field(1, ge=1, description="Counts the restores of the cluster: nodes of different epochs never meet.")
    peers: list[str] = Field(description="Addresses of all nodes of the cluster, this one too.")
    transfer: Literal["mariabackup", "rsync"] = Field("mariabackup", description="How a node gets its data from another (SST).")
    settings: dict[str, str] = Field(
        default_factory=dict, description="What its data needs, by the profile of the backup that the cluster was restored from."
    )
    plugins: list[str] = Field(default_factory=list, description="Names of plugins of that profile.")

    @property
    def group(self) -> str:
        """The name on the wire: a node that missed a restore knows another one."""
        return f"{self.cluster}.{self.epoch}"


class GaleraPosition(Strict):
    """A place in the history of a cluster. ``uuid`` of zeros: of none; ``seqno`` -1: not known."""

    uuid: str = Field(pattern=f"^{UUID}$")
    seqno: int

    @property
    def known(self) -> bool:
        """It names a place that a cluster can go on from."""
        return self.uuid != NO_UUID and self.seqno >= 0

    def __str__(self) -> str:
        return f"{self.uuid}:{self.seqno}"


class TableSums(Strict):
    """Checksums of tables of a node."""

    seqno: int | None = Field(None, description="Transaction after which they were taken; none when that is not known.")
    sums: dict[str, str] = Field(
        description="By database.table; `None` of one that has no content, `error` and a code of one that could not be read."
    )


class GaleraView(Strict):
    """A node of a cluster: what it says itself while it answers, and what its data directory says."""

    member: GaleraMember | None = Field(None, description="What it was told to be; none for one that was adopted.")
    data_epoch: int | None = None
    running: bool = Field(description="Its process lives.")
    answers: bool = Field(description="It answers SQL, though it may refuse queries.")
    refuses: str = Field("", description="Why it does not let us ask; whether and where it serves is not known then.")
    state: str = Field("", description="Synced, Donor/Desynced, Joined, Joiner, Initialized…; empty when it does not answer.")
    primary: bool = Field(False, description="Its part of the cluster has the majority.")
    ready: bool = Field(False, description="It takes queries.")
    connected: bool = False
    desynced: bool = Field(False, description="Told to be (wsrep_desync): the cluster does not wait for it.")
    cluster: str = Field("", description="Name of the cluster on the wire.")
    node: str = Field("", description="Name of the node.")
    uuid: str | None = Field(None, description="History that it is in, or that its grastate.dat tells.")
    seqno: int | None = Field(None, description="Last transaction that it has, or that its grastate.dat tells.")
    size: int = Field(0, description="Nodes that it sees, itself included.")
    peers: list[str] = Field(default_factory=list, description="Addresses of those nodes.")
    safe_to_bootstrap: bool | None = Field(None, description="As grastate.dat tells; none when there is no such file.")
    view: list[str] | None = Field(
        None, description="Nodes (their ids of that run) of the primary view in gvwstate.dat, sorted; there after a crash only."
    )
    view_id: str | None = Field(None, description="Which view that was.")
    receiving: bool = Field(False, description="Another node sends it all its data just now.")
    data_bytes: int = Field(0, description="Bytes in its data directory, which grow meanwhile.")

    @property
    def synced(self) -> bool:
        """It serves, with all that the cluster has."""
        return self.ready and self.primary and self.connected and self.state == "Synced"


class Nodes(Protocol):
    """The nodes of clusters, running or stopped."""

    def view(self, server: Server, *, running: bool) -> GaleraView:
        """The node as it is now; never fails."""

    def is_receiving(self, server: Server) -> bool:
        """Another node sends it all its data, or was cut off in that: what it has is not whole."""

    def find_position(self, server: Server) -> GaleraPosition:
        """Where the data of a stopped node stands. Raises Conflict when it has none, ToolFailed, ServerFailed."""

    def start_options(self, server: Server, *, bootstrap: bool, expected: str | None = None) -> list[str]:
        """What is added to the start command this once. Raises Conflict when it cannot bootstrap, or not at ``expected``."""

    def seed(self, server: Server, data_dir: Path, uuid: str) -> GaleraPosition:
        """Give a prepared directory the identity of a new cluster. Idempotent. Raises ToolFailed, ServerFailed."""

    def list_ports(self) -> Sequence[int]:
        """Where nodes listen, beside the port of the datastore."""


class RunningNodes(Protocol):
    """What running nodes do to prove that their cluster is complete."""

    def set_desync(self, server: Server, desync: bool) -> bool:
        """Whether the cluster waits for this node when it falls behind; true when this has changed something."""

    def write_canary(self, server: Server, word: str) -> None:
        """Write a word through this node."""

    def read_canaries(self, server: Server) -> list[str]:
        """Words that it reads, with all that was committed on any node."""

    def drop_canaries(self, server: Server) -> None:
        """Remove them."""

    def sum_tables(self, server: Server, *, tables: Collection[str] | None = None, at: int | None = None) -> TableSums:
        """Checksums of the tables of users that clusters replicate, or of those of them that are named.

        With ``at`` all are taken from one snapshot, made after this transaction if it comes within a few seconds.
        """


@dataclass(frozen=True, slots=True)
class Clusters:
    """Clusters of a datastore."""

    nodes: Nodes
    running: RunningNodes
