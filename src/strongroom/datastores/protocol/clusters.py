"""Galera clusters: configuration, state and position of a node."""

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


def list_missing(programs: Container[str]) -> list[str]:
    """What an installation with these programs, by role, lacks for nodes of clusters. State transfers need the scripts."""
    return [what for role, what in PROGRAMS.items() if role not in programs]


class GaleraMember(Strict):
    """A server's place in a Galera cluster."""

    cluster: str = Field(
        pattern=r"^[A-Za-z0-9._-]{1,32}$", description="Name of the cluster. Nodes with other names do not connect."
    )
    node: str = Field(pattern=r"^[A-Za-z0-9._-]{1,64}$", description="Name of this node.")
    epoch: int = Field(1, ge=1, description="Counts the restores of the cluster: nodes of different epochs never connect.")
    peers: list[str] = Field(description="Addresses of all nodes of the cluster, including this one.")
    transfer: Literal["mariabackup", "rsync"] = Field("mariabackup", description="How a node gets its data from another (SST).")
    settings: dict[str, str] = Field(
        default_factory=dict, description="Settings that its data needs, from the profile of the restored backup."
    )
    plugins: list[str] = Field(default_factory=list, description="Names of plugins of that profile.")

    @property
    def group(self) -> str:
        """The name of the group on the network. A node that missed a restore has another one."""
        return f"{self.cluster}.{self.epoch}"


class GaleraPosition(Strict):
    """A position in the history of a cluster. A ``uuid`` of zeros means no history; a ``seqno`` of -1 means unknown."""

    uuid: str = Field(pattern=f"^{UUID}$")
    seqno: int

    @property
    def known(self) -> bool:
        """Whether a cluster can continue from this position."""
        return self.uuid != NO_UUID and self.seqno >= 0

    def __str__(self) -> str:
        return f"{self.uuid}:{self.seqno}"


class TableSums(Strict):
    """Checksums of tables of a node."""

    seqno: int | None = Field(None, description="The last transaction in the checksums; none if unknown.")
    sums: dict[str, str] = Field(
        description="By database.table. `None` for a table without content, `error` and a code for one that cannot be read."
    )


class GaleraView(Strict):
    """The state of a node: from its status variables while it answers, and from its data directory."""

    member: GaleraMember | None = Field(None, description="Its configuration; none for an adopted node.")
    data_epoch: int | None = None
    running: bool = Field(description="Its process exists.")
    answers: bool = Field(description="It answers SQL, though it may refuse queries.")
    refuses: str = Field("", description="Why it refuses the login; its state is unknown then.")
    state: str = Field("", description="Synced, Donor/Desynced, Joined, Joiner, Initialized…; empty when it does not answer.")
    primary: bool = Field(False, description="Its part of the cluster has the majority.")
    ready: bool = Field(False, description="It accepts queries.")
    connected: bool = False
    desynced: bool = Field(False, description="wsrep_desync is on: the cluster does not wait for it.")
    cluster: str = Field("", description="Name of the group on the network.")
    node: str = Field("", description="Name of the node.")
    uuid: str | None = Field(None, description="Its history, from its status or from grastate.dat.")
    seqno: int | None = Field(None, description="Its last transaction, from its status or from grastate.dat.")
    size: int = Field(0, description="Number of nodes that it sees, including itself.")
    peers: list[str] = Field(default_factory=list, description="Addresses of those nodes.")
    safe_to_bootstrap: bool | None = Field(None, description="From grastate.dat; none if there is no such file.")
    view: list[str] | None = Field(
        None, description="Ids of the nodes in the primary view of gvwstate.dat, sorted. The file exists only after a crash."
    )
    view_id: str | None = Field(None, description="Id of that view.")
    receiving: bool = Field(False, description="It is receiving a full state transfer.")
    data_bytes: int = Field(0, description="Bytes in its data directory; they grow during a state transfer.")

    @property
    def synced(self) -> bool:
        """Whether it serves and has all transactions of the cluster."""
        return self.ready and self.primary and self.connected and self.state == "Synced"


class Nodes(Protocol):
    """The nodes of clusters, running or stopped."""

    def view(self, server: Server, *, running: bool) -> GaleraView:
        """The current state of the node. Never fails."""

    def is_receiving(self, server: Server) -> bool:
        """Whether a full state transfer to the node runs or was interrupted, so that its data is incomplete."""

    def find_position(self, server: Server) -> GaleraPosition:
        """The position of a stopped node. Raises Conflict if it has no data, ToolFailed, ServerFailed."""

    def start_options(self, server: Server, *, bootstrap: bool, expected: str | None = None) -> list[str]:
        """Options for the next start only. Raises Conflict if the node cannot bootstrap, or is not at ``expected``."""

    def seed(self, server: Server, data_dir: Path, uuid: str) -> GaleraPosition:
        """Make a prepared directory the first state of a new cluster. Idempotent. Raises ToolFailed, ServerFailed."""

    def list_ports(self) -> Sequence[int]:
        """Ports on which nodes listen, in addition to the port of the datastore."""


class RunningNodes(Protocol):
    """Statements on running nodes that prove that their cluster is complete."""

    def set_desync(self, server: Server, desync: bool) -> bool:
        """Set whether the cluster waits for this node when it falls behind. Returns whether this was a change."""

    def write_canary(self, server: Server, word: str) -> None:
        """Write a word through this node."""

    def read_canaries(self, server: Server) -> list[str]:
        """The words that this node reads, after it has applied all that was committed on any node."""

    def drop_canaries(self, server: Server) -> None:
        """Remove all words."""

    def sum_tables(self, server: Server, *, tables: Collection[str] | None = None, at: int | None = None) -> TableSums:
        """Checksums of the users' tables that clusters replicate, or of ``tables`` only.

        With ``at``, all come from one snapshot that is taken after this transaction, if it arrives within a few seconds.
        """


@dataclass(frozen=True, slots=True)
class Clusters:
    """Clusters of a datastore."""

    nodes: Nodes
    running: RunningNodes
