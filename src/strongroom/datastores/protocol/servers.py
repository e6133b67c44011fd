"""A database server of this host, and an installed version of a database, as drivers, agent and worker see them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from strongroom.datastores.protocol.nodes import GaleraMember
from strongroom.datastores.protocol.strict import Strict


class Version(Strict):
    """An installed database: ``series`` (``10.11``) names it, ``number`` (``10.11.19``) is the full version."""

    datastore: str
    series: str
    number: str
    programs: dict[str, Path] = Field(description="Programs by role: server, backup, stream, initialize, …")


Runtime = Literal["process", "adopted"]
"""How a server runs: as a process of the agent, or in the way that its owner has chosen."""


class ServerBase(Strict):
    """What a server is defined by, and what drivers need to reach it."""

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
