"""The driver: one class with the methods of the Protocol, each done by the module of its noun."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from strongroom.artifact import Check, Collation, Format, Positions
from strongroom.datastores.postgresql.backup import describe as describe_module
from strongroom.datastores.postgresql.backup import slot
from strongroom.datastores.postgresql.backup.stream_check import StreamCheck
from strongroom.datastores.postgresql.files import manifest
from strongroom.datastores.postgresql.profile import collations as collations_module
from strongroom.datastores.postgresql.profile import server_profile
from strongroom.datastores.postgresql.server import admin, config, facts, outside
from strongroom.datastores.postgresql.server import examine as examine_module
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


class PostgreSQL:
    """PostgreSQL 13 and later, single servers. See ``Datastore`` for the methods.

    What only workers do is imported when it is called: numpy takes a third of a second, for which the service has no use.
    """

    name = "postgresql"
    default_port = 5432
    default_user = "postgres"
    socket_name = f".s.PGSQL.{default_port}"
    stop_signal = signal.SIGINT  # fast shutdown; SIGTERM waits until every client has left
    capabilities = Capabilities(incremental=True, log_apply=False, hosts=False, keep=manifest.KEEP)
    side_files = describe_module.SIDE_FILES
    galera: Galera | None = None
    profiles: Profiles = server_profile.ServerProfiles()
    placement: Placement = outside.ServerPlacement()

    def load(self) -> None:
        from strongroom.datastores.postgresql.restore import chain as chain_module  # noqa: F401

    def configure(self, server: Server) -> None:
        config.configure(server)

    def start_argv(self, server: Server) -> list[str]:
        return config.start_argv(server)

    def ready(self, server: Server) -> Facts:
        return facts.ready(server)

    def measure(self, data_dir: Path) -> Sizes:
        return facts.measure(data_dir)

    def check_data(self, server: Server, data_dir: Path) -> None:
        facts.check_data(server, data_dir)

    def lineage(self, data_dir: Path, *, renew: bool = False) -> str:
        return lineage(data_dir, renew=renew)

    def examine(self, server: Server) -> Iterator[Finding]:
        return examine_module.examine(server)

    def keep_configuration(self, server: Server, new: Path) -> None:
        config.keep(server, new)

    def initialize(self, server: Server, data_dir: Path, log: Path) -> None:
        config.initialize(server, data_dir, log)

    def begin_backup(self, server: Server, request: BackupRequest) -> BackupSession:
        from strongroom.datastores.postgresql.backup import blocks, full, wal

        if request.kind == "full" or blocks.possible(server, request.parent):
            return full.begin(server, request)
        return wal.begin(server, request)

    def stream(self, server: Server) -> Format:
        return "tar"

    def stored(self, server: Server, positions: Positions) -> None:
        slot.release(server, positions)

    def restore(
        self,
        version: Version,
        chain: Sequence[ChainLink],
        target: Path,
        work_dir: Path,
        phase: Phase,
        server: Server | None = None,
    ) -> Restored:
        from strongroom.datastores.postgresql.restore import chain as chain_module

        return chain_module.restore(version, chain, target, work_dir, phase, server)

    def warnings(self, version: Version, collations: Sequence[Collation]) -> list[str]:
        return collations_module.warnings(version.programs["server"], collations)

    def stream_check(self, positions: Positions) -> Check | None:
        return None if positions.wal_from else StreamCheck()

    def describe(self, files: Mapping[str, bytes], sizes: Mapping[str, int], said: Positions) -> StreamFacts:
        return describe_module.describe(files, sizes, said)

    def check_new(self, databases: Sequence[DatabaseSpec], users: Sequence[UserSpec]) -> None:
        admin.check_new(databases, users)

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
