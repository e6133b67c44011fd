"""The nodes of Galera clusters: one class with the methods of the Protocol, each done by the module of its noun."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from strongroom.datastores.mariadb import _galera_config, _galera_files, _galera_run, _galera_talk
from strongroom.datastores.protocol.nodes import GaleraPosition, GaleraView, TableSums
from strongroom.datastores.protocol.servers import Server


class Nodes:
    """See ``Galera`` for the methods."""

    def view(self, server: Server, *, running: bool) -> GaleraView:
        return _galera_talk.view(server, running=running)

    def receiving(self, server: Server) -> bool:
        return _galera_files.is_receiving(server.data_dir)

    def position(self, server: Server) -> GaleraPosition:
        return _galera_run.position(server, server.data_dir)

    def start_options(self, server: Server, *, bootstrap: bool, expected: str | None = None) -> list[str]:
        return _galera_run.start_options(server, bootstrap=bootstrap, expected=expected)

    def seed(self, server: Server, data_dir: Path, uuid: str) -> GaleraPosition:
        return _galera_run.seed(server, data_dir, uuid)

    def ports(self) -> Sequence[int]:
        return (_galera_config.GROUP_PORT, _galera_config.IST_PORT, _galera_config.SST_PORT)

    def set_desync(self, server: Server, desync: bool) -> bool:
        return _galera_talk.set_desync(server, desync)

    def write_canary(self, server: Server, word: str) -> None:
        _galera_talk.write_canary(server, word)

    def canaries(self, server: Server) -> list[str]:
        return _galera_talk.canaries(server)

    def drop_canaries(self, server: Server) -> None:
        _galera_talk.drop_canaries(server)

    def checksums(self, server: Server, *, tables: Collection[str] | None = None, at: int | None = None) -> TableSums:
        return _galera_talk.checksums(server, tables, at)
