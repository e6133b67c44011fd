"""A database server of this host, an installed version of a database, and what a driver does with servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from strongroom.datastores.protocol.clusters import GaleraMember
from strongroom.datastores.protocol.strict import Strict


class Version(Strict):
    """An installed database: ``series`` (``10.11``) names it, ``number`` (``10.11.19``) is the full version."""

    datastore: str
    series: str
    number: str
    programs: dict[str, Path] = Field(description="Programs by role: server, backup, stream, initialize, …")


Runtime = Literal["process", "adopted"]
"""How a server runs: as a process of the agent, or as its owner set it up."""


class ServerBase(Strict):
    """The definition of a server, and how drivers reach it."""

    name: str = ""
    datastore: str
    runtime: Runtime = "process"
    ram_mb: int = 512
    socket: Path | None = None
    address: str | None = None
    port: int | None = None
    defaults_file: Path | None = Field(None, description="adopted: the server's own option file.")
    credentials_file: Path | None = Field(
        None, description="Option file (0600) with [client] user and password; process runtime: written by configure()."
    )
    start_command: list[str] = Field(default_factory=list, description="adopted: how its owner starts it.")
    stop_command: list[str] = Field(default_factory=list, description="adopted: how its owner stops it.")

    @property
    def is_adopted(self) -> bool:
        """Whether its owner set it up: its configuration, its accounts and the way it is started are the owner's."""
        return self.runtime != "process"


class Server(ServerBase):
    """One database server on this host, as the agent knows it. Paths are absolute."""

    id: str = Field(description="Id of the instance.")
    user: str = Field(description="OS user that the server and the tools run as.")
    base_dir: Path = Field(description="The instance's own directory: configuration, socket, logs, secrets.")
    data_dir: Path
    version: Version
    wal_limit_mb: int | None = Field(None, description="MB of log that may be kept for incrementals. Default: by its volume.")
    galera: GaleraMember | None = Field(None, description="The cluster that it is a node of.")


class Facts(Strict):
    """What a running server reports about itself."""

    version_number: str
    data_dir: Path | None = Field(None, description="The data directory that the server reports.")
    galera: dict[str, str] | None = Field(None, description="wsrep status, when the server is a member of a cluster.")
    warning: str = Field("", description="A problem that will stop the server soon, although it still serves.")


class Sizes(Strict):
    """The disk usage of a server."""

    data_bytes: int = Field(description="Bytes in the data directory.")
    wal_bytes: int | None = Field(None, description="Of these, bytes of WAL; none for a database without WAL.")


class Finding(Strict):
    """The result of one check."""

    level: Literal["ok", "warning", "error"]
    message: str
    remedy: str = ""


class Servers(Protocol):
    """Configures, starts and examines servers. Stateless: every call names the server.

    Called by the agent, as root or as the server's own user; ``initialize`` by the worker.
    """

    def configure(self, server: Server) -> None:
        """Write the server's own files below ``base_dir`` (process runtime). Idempotent; secrets are made once, 0600."""

    def initialize(self, server: Server, data_dir: Path, log: Path) -> None:
        """Make an empty database in the empty ``data_dir``."""

    def build_command(self, server: Server) -> list[str]:
        """The command of the server, to be run as ``server.user`` in its own session."""

    def read_facts(self, server: Server) -> Facts:
        """Query the server. Raises ServerFailed, with the end of its log, while it does not serve."""

    def measure(self, data_dir: Path) -> Sizes:
        """Add up the sizes of all files of a server. Takes longer than ``read_facts``."""

    def check_data(self, server: Server, data_dir: Path) -> None:
        """Check a directory before a start. Raises ServerFailed if it was extracted but not prepared."""

    def ensure_lineage(self, data_dir: Path, *, renew: bool = False) -> str:
        """The random id in the data directory. It is created when it is missing; ``renew`` replaces it."""

    def examine(self, server: Server) -> Iterator[Finding]:
        """Find what an adopted server lacks for backups, with a remedy for its owner. Changes nothing."""
