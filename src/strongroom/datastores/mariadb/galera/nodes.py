"""The nodes of Galera clusters: one class with the methods of the Protocol, each done by the module of its noun."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from strongroom.datastores.mariadb.galera import config, files, stopped
from strongroom.datastores.mariadb.galera import running as running_module
from strongroom.datastores.protocol.nodes import GaleraPosition, GaleraView, TableSums
from strongroom.datastores.protocol.servers import Server


class Nodes:
    """See ``Galera`` for the methods."""

    def view(self, server: Server, *, running: bool) -> GaleraView:
        return running_module.view(server, running=running)

    def receiving(self, server: Server) -> bool:
        return files.is_receiving(server.data_dir)

    def position(self, server: Server) -> GaleraPosition:
        return stopped.position(server, server.data_dir)

    def start_options(self, server: Server, *, bootstrap: bool, expected: str | None = None) -> list[str]:
        return stopped.start_options(server, bootstrap=bootstrap, expected=expected)

    def seed(self, server: Server, data_dir: Path, uuid: str) -> GaleraPosition:
        return stopped.seed(server, data_dir, uuid)

    def ports(self) -> Sequence[int]:
        return (config.GROUP_PORT, config.IST_PORT, config.SST_PORT)

    def set_desync(self, server: Server, desync: bool) -> bool:
        return running_module.set_desync(server, desync)

    def write_canary(self, server: Server, word: str) -> None:
        running_module.write_canary(server, word)

    def canaries(self, server: Server) -> list[str]:
        return running_module.canaries(server)

    def drop_canaries(self, server: Server) -> None:
        running_module.drop_canaries(server)

    def checksums(self, server: Server, *, tables: Collection[str] | None = None, at: int | None = None) -> TableSums:
        return running_module.checksums(server, tables, at)
