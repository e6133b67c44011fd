"""The driver: one class with the methods of the Protocol, each done by the module of its noun."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from strongroom.artifact import Check, Collation, Format, Positions
from strongroom.datastores.postgresql import (
    _admin,
    _collations,
    _config,
    _describe,
    _examine,
    _facts,
    _manifest,
    _outside,
    _profile,
    _versions,
    _wal_slot,
)
from strongroom.datastores.postgresql._stream_check import StreamCheck
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
    capabilities = Capabilities(incremental=True, log_apply=False, hosts=False, keep=_manifest.KEEP)
    side_files = _describe.SIDE_FILES
    galera: Galera | None = None
    profiles: Profiles = _profile.ServerProfiles()
    placement: Placement = _outside.ServerPlacement()

    def load(self) -> None:
        from strongroom.datastores.postgresql import _backup, _restore, _wal_backup  # noqa: F401

    def discover(self, places: Sequence[Path]) -> list[Version]:
        return _versions.discover(places)

    def configure(self, server: Server) -> None:
        _config.configure(server)

    def start_argv(self, server: Server) -> list[str]:
        return _config.start_argv(server)

    def ready(self, server: Server) -> Facts:
        return _facts.ready(server)

    def check_data(self, server: Server, data_dir: Path) -> None:
        _facts.check_data(server, data_dir)

    def lineage(self, data_dir: Path, *, renew: bool = False) -> str:
        return lineage(data_dir, renew=renew)

    def examine(self, server: Server) -> Iterator[Finding]:
        return _examine.examine(server)

    def keep_configuration(self, server: Server, new: Path) -> None:
        _config.keep(server, new)

    def initialize(self, server: Server, data_dir: Path, log: Path) -> None:
        _config.initialize(server, data_dir, log)

    def begin_backup(self, server: Server, request: BackupRequest) -> BackupSession:
        from strongroom.datastores.postgresql import _backup, _block_backup, _wal_backup

        if request.kind == "full" or _block_backup.possible(server, request.parent):
            return _backup.begin(server, request)
        return _wal_backup.begin(server, request)

    def stream(self, server: Server) -> Format:
        return "tar"

    def stored(self, server: Server, positions: Positions) -> None:
        _wal_slot.release(server, positions)

    def restore(
        self,
        version: Version,
        chain: Sequence[ChainLink],
        target: Path,
        work_dir: Path,
        phase: Phase,
        server: Server | None = None,
    ) -> Restored:
        from strongroom.datastores.postgresql import _restore

        return _restore.restore(version, chain, target, work_dir, phase, server)

    def warnings(self, version: Version, collations: Sequence[Collation]) -> list[str]:
        return _collations.warnings(version.programs["server"], collations)

    def stream_check(self, positions: Positions) -> Check | None:
        return None if positions.wal_from else StreamCheck()

    def describe(self, files: Mapping[str, bytes], sizes: Mapping[str, int], said: Positions) -> StreamFacts:
        return _describe.describe(files, sizes, said)

    def check_new(self, databases: Sequence[DatabaseSpec], users: Sequence[UserSpec]) -> None:
        _admin.check_new(databases, users)

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
