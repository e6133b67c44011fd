"""What the agent knows of its servers, and where it keeps them: shared by everything that works on servers."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from strongroom import datastores
from strongroom.agent.host.addresses import Addresses
from strongroom.agent.host.versions import find_version
from strongroom.agent.registry import Registry, ServerRecord
from strongroom.datastores import Clusters, Datastore, Server, ServerBase, read_tail
from strongroom.settings import Settings


@dataclass(frozen=True, slots=True)
class Home:
    """The records of all servers, their directories, and the addresses that they may get."""

    settings: Settings
    registry: Registry
    instances: Path
    addresses: Addresses

    def base_dir(self, server_id: str) -> Path:
        """The instance's own directory."""
        return self.instances / server_id

    def get_datastore(self, record: ServerRecord) -> Datastore:
        """The server's datastore."""
        return datastores.get(record.definition.datastore)

    def get_clusters(self, record: ServerRecord) -> Clusters:
        """What is done with the clusters of the server's datastore. Raises Unsupported."""
        return self.get_datastore(record).require_clusters()

    def describe_server(self, record: ServerRecord) -> Server:
        """The server as drivers and workers see it. Raises ConfigurationError if its version is no longer installed."""
        definition = record.definition
        shared = {name: getattr(definition, name) for name in ServerBase.model_fields}
        place = {"socket": record.socket, "address": record.address, "port": record.port}
        return Server(
            **shared | place,
            id=record.id,
            user=record.user,
            base_dir=self.base_dir(record.id),
            data_dir=record.data_dir,
            version=find_version(self.settings, definition.datastore, definition.series),
            wal_limit_mb=self.settings.agent.wal_limit,
            galera=record.member,
        )

    def list_addresses(self) -> set[str]:
        """Addresses that servers of this agent have."""
        return {record.address for record in self.registry.all() if record.address is not None}

    def open_output(self, record: ServerRecord) -> int:
        """A descriptor for the output of one start: the server has a log of its own."""
        return os.open(self._output(record), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def read_output(self, record: ServerRecord) -> str:
        """The end of the output of the last start, for a message."""
        text = "\n".join(read_tail(self._output(record), size=1000))
        return f"it wrote:\n{text}" if text else ""

    def _output(self, record: ServerRecord) -> Path:
        return self.registry.place(record.id) / "output.log"
