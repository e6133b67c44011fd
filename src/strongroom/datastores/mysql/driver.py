"""The driver: one class with the methods of the Protocol, each done by the module of its noun."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from strongroom.artifact import Check, Collation, Format, Positions
from strongroom.datastores.mariadb import _admin, _checkpoints
from strongroom.datastores.mysql.backup import full, xtrabackup
from strongroom.datastores.mysql.profile import server_profile
from strongroom.datastores.mysql.restore import chain as chain_module
from strongroom.datastores.mysql.server import config, facts, outside
from strongroom.datastores.mysql.server import examine as examine_module
from strongroom.datastores.protocol.datastore import (
    BackupRequest,
    BackupSession,
    Capabilities,
    ChainLink,
    DatabaseSpec,
    Facts,
    Finding,
    Galera,
    Phase,
    Restored,
    Sizes,
    StreamFacts,
    UserChange,
    UserSpec,
)
from strongroom.datastores.protocol.placement import Placement
from strongroom.datastores.protocol.profiles import Profiles
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.toolkit.lineage import lineage
from strongroom.errors import LineageChanged
from strongroom.system.disks import measure_files


class MySQL:
    """MySQL 8.0.17 and later, single servers. See ``Datastore`` for the methods."""

    name = "mysql"
    default_port = 3306
    default_user = "mysql"
    socket_name = "mysqld.sock"
    stop_signal = signal.SIGTERM
    capabilities = Capabilities(incremental=True, log_apply=True, aio_events=2305)
    side_files = _checkpoints.SIDE_FILES
    galera: Galera | None = None
    profiles: Profiles = server_profile.ServerProfiles()
    placement: Placement = outside.ServerPlacement()

    def load(self) -> None:
        pass

    def configure(self, server: Server) -> None:
        config.configure(server)

    def start_argv(self, server: Server) -> list[str]:
        return config.start_argv(server)

    def ready(self, server: Server) -> Facts:
        return facts.ready(server)

    def measure(self, data_dir: Path) -> Sizes:
        return Sizes(data_bytes=measure_files(data_dir))

    def check_data(self, server: Server, data_dir: Path) -> None:
        facts.check_data(data_dir)

    def lineage(self, data_dir: Path, *, renew: bool = False) -> str:
        return lineage(data_dir, renew=renew)

    def examine(self, server: Server) -> Iterator[Finding]:
        return examine_module.examine(server)

    def keep_configuration(self, server: Server, new: Path) -> None:
        config.keep(server, new)

    def initialize(self, server: Server, data_dir: Path, log: Path) -> None:
        config.initialize(server, data_dir, log)

    def begin_backup(self, server: Server, request: BackupRequest) -> BackupSession:
        by_pages = xtrabackup.serves(server.version)
        if request.parent is not None and (request.parent.to_lsn is not None) != by_pages:
            before, now = ("without", "has one now") if by_pages else ("by", "has none for this server")
            raise LineageChanged(
                f"the parent backup was taken {before} XtraBackup, and this host {now}",
                remedy="Take a full backup; incrementals can go on from that.",
            )
        if by_pages:
            return xtrabackup.begin(server, request)
        return full.begin(server, request)

    def stream(self, server: Server) -> Format:
        return "mbstream" if xtrabackup.serves(server.version) else "tar"

    def stored(self, server: Server, positions: Positions) -> None:
        """Nothing is kept for backups."""

    def restore(
        self,
        version: Version,
        chain: Sequence[ChainLink],
        target: Path,
        work_dir: Path,
        phase: Phase,
        server: Server | None = None,
    ) -> Restored:
        if chain[0].stream == "mbstream":
            return xtrabackup.restore(version, chain, target, work_dir, phase)
        return chain_module.restore(version, chain, target, work_dir, phase, rehearsal=server is None)

    def warnings(self, version: Version, collations: Sequence[Collation]) -> list[str]:
        return []  # it brings its own rules along

    def stream_check(self, positions: Positions) -> Check | None:
        return None

    def describe(self, files: Mapping[str, bytes], sizes: Mapping[str, int], said: Positions) -> StreamFacts:
        return _checkpoints.describe(files, "MySQL")  # by others there are only those of XtraBackup

    def check_new(self, databases: Sequence[DatabaseSpec], users: Sequence[UserSpec]) -> None:
        _admin.check_new(self.name, databases, users)

    def databases(self, server: Server) -> list[DatabaseSpec]:
        return _admin.databases(server)

    def create_databases(self, server: Server, databases: Sequence[DatabaseSpec]) -> None:
        _admin.create_databases(server, databases)

    def drop_database(self, server: Server, name: str) -> None:
        _admin.drop_database(server, name)

    def users(self, server: Server) -> list[UserSpec]:
        return _admin.users(server)

    def create_users(self, server: Server, users: Sequence[UserSpec]) -> None:
        _admin.create_users(server, users)

    def drop_user(self, server: Server, name: str, host: str) -> None:
        _admin.drop_user(server, name, host)

    def change_user(self, server: Server, name: str, host: str, change: UserChange) -> None:
        _admin.change_user(server, name, host, change)

    def grant(self, server: Server, name: str, host: str, databases: Sequence[str]) -> None:
        _admin.grant(server, name, host, databases)

    def revoke(self, server: Server, name: str, host: str, database: str) -> None:
        _admin.revoke(server, name, host, database)

    def superuser_enabled(self, server: Server) -> bool:
        return _admin.superuser_enabled(server)

    def enable_superuser(self, server: Server, password: str) -> str:
        return _admin.enable_superuser(server, password)

    def disable_superuser(self, server: Server) -> None:
        _admin.disable_superuser(server)
