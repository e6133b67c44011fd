"""The driver: one class with the methods of the Protocol, each done by the module of its noun."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from strongroom.artifact import Check, Collation, Format, Positions
from strongroom.datastores.mariadb import (
    _admin,
    _backup,
    _checkpoints,
    _config,
    _facts,
    _kept,
    _lineage,
    _outside,
    _profile,
    _redo,
    _restore,
    _witness,
)
from strongroom.datastores.mariadb._galera_driver import Nodes
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
from strongroom.system.disks import measure_files


class MariaDB:
    """MariaDB 10.5 and later, single servers and members of Galera clusters. See ``Datastore`` for the methods."""

    name = "mariadb"
    default_port = 3306
    default_user = "mysql"
    socket_name = "mysqld.sock"
    stop_signal = signal.SIGTERM
    capabilities = Capabilities(incremental=True, log_apply=True, keep_end=frozenset([_redo.LOG_FILE]))
    side_files = _checkpoints.SIDE_FILES
    galera: Galera | None = Nodes()
    profiles: Profiles = _profile.ServerProfiles()
    placement: Placement = _outside.ServerPlacement()

    def load(self) -> None:
        pass

    def configure(self, server: Server) -> None:
        _config.configure(server)

    def start_argv(self, server: Server) -> list[str]:
        return _config.start_argv(server)

    def ready(self, server: Server) -> Facts:
        return _facts.ready(server)

    def measure(self, data_dir: Path) -> Sizes:
        return Sizes(data_bytes=measure_files(data_dir))

    def check_data(self, server: Server, data_dir: Path) -> None:
        _facts.check_data(data_dir, may_be_empty=server.galera is not None and data_dir == server.data_dir)

    def lineage(self, data_dir: Path, *, renew: bool = False) -> str:
        return _lineage.lineage(data_dir, renew=renew)

    def examine(self, server: Server) -> Iterator[Finding]:
        yield from _facts.examine(server)
        yield from _witness.examine(server)

    def keep_configuration(self, server: Server, new: Path) -> None:
        _kept.keep(server, new)

    def initialize(self, server: Server, data_dir: Path, log: Path) -> None:
        _config.initialize(server, data_dir, log)

    def begin_backup(self, server: Server, request: BackupRequest) -> BackupSession:
        return _backup.begin(server, request)

    def stream(self, server: Server) -> Format:
        return "mbstream"

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
        return _restore.restore(version, chain, target, work_dir, phase, server)

    def warnings(self, version: Version, collations: Sequence[Collation]) -> list[str]:
        return []  # it brings its own rules along

    def stream_check(self, positions: Positions) -> Check | None:
        return None

    def describe(self, files: Mapping[str, bytes], sizes: Mapping[str, int], said: Positions) -> StreamFacts:
        return _checkpoints.describe(files)

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
