"""The driver: one class with the methods of the Protocol, each done by the module of its noun."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from strongroom.artifact import Check, Collation, Format, Positions
from strongroom.datastores.innodb import admin, checkpoints, outside, witness
from strongroom.datastores.mariadb.backup import redo, session
from strongroom.datastores.mariadb.galera import lineage as lineage_module
from strongroom.datastores.mariadb.galera.nodes import Nodes
from strongroom.datastores.mariadb.profile import server_profile
from strongroom.datastores.mariadb.restore import chain as chain_module
from strongroom.datastores.mariadb.server import config, facts, kept
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
    StreamFacts,
    UserChange,
    UserSpec,
)
from strongroom.datastores.protocol.placement import Placement
from strongroom.datastores.protocol.profiles import Profiles
from strongroom.datastores.protocol.servers import Server, Version


class MariaDB:
    """MariaDB 10.5 and later, single servers and members of Galera clusters. See ``Datastore`` for the methods."""

    name = "mariadb"
    default_port = 3306
    default_user = "mysql"
    socket_name = "mysqld.sock"
    stop_signal = signal.SIGTERM
    capabilities = Capabilities(incremental=True, log_apply=True, keep_end=frozenset([redo.LOG_FILE]))
    side_files = checkpoints.SIDE_FILES
    galera: Galera | None = Nodes()
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

    def check_data(self, server: Server, data_dir: Path) -> None:
        facts.check_data(data_dir, may_be_empty=server.galera is not None and data_dir == server.data_dir)

    def lineage(self, data_dir: Path, *, renew: bool = False) -> str:
        return lineage_module.lineage(data_dir, renew=renew)

    def examine(self, server: Server) -> Iterator[Finding]:
        yield from facts.examine(server)
        yield from witness.examine(server)

    def keep_configuration(self, server: Server, new: Path) -> None:
        kept.keep(server, new)

    def initialize(self, server: Server, data_dir: Path, log: Path) -> None:
        config.initialize(server, data_dir, log)

    def begin_backup(self, server: Server, request: BackupRequest) -> BackupSession:
        return session.begin(server, request)

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
        return chain_module.restore(version, chain, target, work_dir, phase, server)

    def warnings(self, version: Version, collations: Sequence[Collation]) -> list[str]:
        return []  # it brings its own rules along

    def stream_check(self, positions: Positions) -> Check | None:
        return None

    def describe(self, files: Mapping[str, bytes], sizes: Mapping[str, int], said: Positions) -> StreamFacts:
        return checkpoints.describe(files)

    def check_new(self, databases: Sequence[DatabaseSpec], users: Sequence[UserSpec]) -> None:
        admin.check_new(self.name, databases, users)

    def databases(self, server: Server) -> list[DatabaseSpec]:
        return admin.databases(server)

    def create_databases(self, server: Server, databases: Sequence[DatabaseSpec]) -> None:
        admin.create_databases(server, databases)

    def drop_database(self, server: Server, name: str) -> None:
        admin.drop_database(server, name)

    def users(self, server: Server) -> list[UserSpec]:
        return admin.users(server)

    def create_users(self, server: Server, users: Sequence[UserSpec]) -> None:
        admin.create_users(server, users)

    def drop_user(self, server: Server, name: str, host: str) -> None:
        admin.drop_user(server, name, host)

    def change_user(self, server: Server, name: str, host: str, change: UserChange) -> None:
        admin.change_user(server, name, host, change)

    def grant(self, server: Server, name: str, host: str, databases: Sequence[str]) -> None:
        admin.grant(server, name, host, databases)

    def revoke(self, server: Server, name: str, host: str, database: str) -> None:
        admin.revoke(server, name, host, database)

    def superuser_enabled(self, server: Server) -> bool:
        return admin.superuser_enabled(server)

    def enable_superuser(self, server: Server, password: str) -> str:
        return admin.enable_superuser(server, password)

    def disable_superuser(self, server: Server) -> None:
        admin.disable_superuser(server)
