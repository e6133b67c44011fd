"""What all sessions of base backups share: they differ in how the stream is produced, not in the checks at its end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack

import psycopg

import strongroom
from strongroom.artifact import Collation, Positions
from strongroom.datastores.postgresql.backup import blocks
from strongroom.datastores.postgresql.backup.inspection import PageInspection
from strongroom.datastores.postgresql.backup.witness import leave_witness
from strongroom.datastores.postgresql.files import tablespaces
from strongroom.datastores.postgresql.files.tablespaces import Tablespace
from strongroom.datastores.postgresql.files.tree import measure_data
from strongroom.datastores.postgresql.server.connection import Connection, connect, describe_server, query
from strongroom.datastores.protocol.backups import BackupRequest, BackupResult, Inspection
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ServerFailed, StrongroomError, ToolFailed


class BaseBackup(ABC):
    """A running full, or incremental of changed blocks: the caller reads ``stdout`` to its end, then calls ``finish``."""

    tool = "strongroom"
    tool_version = strongroom.__version__

    def __init__(self, server: Server, request: BackupRequest, *, version: str, spaces: Sequence[Tablespace]) -> None:
        """``spaces``: the tablespaces before the backup."""
        self.data_bytes = measure_data(server.data_dir)
        self.expected: int | None = self.data_bytes if request.kind == "full" else None
        self.inspection: Inspection | None = None
        self.held = ExitStack()
        """The connection that holds the WAL and the backup; closed at the end."""
        self.collations: list[Collation] = []
        self._server, self._request, self._version, self._spaces = server, request, version, spaces

    def _inspect(self, start: str | None = None) -> None:
        """Inspect the pages of the stream. ``start``: the WAL position where the backup begins, if already known."""
        self.inspection = PageInspection(self._server.data_dir, start)

    @abstractmethod
    def _complete(self) -> Positions:
        """Wait for the end of the stream; the backup's positions in the WAL. Raises ToolFailed, ServerFailed."""

    def finish(self) -> BackupResult:
        """See the Protocol."""
        positions = self._complete()
        with connect(self._server) as connection:
            tablespaces.require_same(self._spaces, tablespaces.read(connection), self._server)
            if not checks_pages(connection):  # pages written meanwhile may lack checksums
                self.inspection = None
            ((size, standby),) = query(
                connection, "SELECT pg_size_bytes(current_setting('wal_segment_size'))::int, pg_is_in_recovery()"
            )
        tablespaces.require_unchanged(self._server, positions, size, self._request.work_dir, standby=standby)
        positions = blocks.complete_positions(self._server, self._request, positions)
        witness, warnings = leave_witness(self._server)
        return BackupResult(
            tool=self.tool,
            tool_version=self.tool_version,
            server_version=self._version,
            positions=positions,
            data_bytes=self.data_bytes,
            collations=self.collations,
            witness=witness,
            warnings=warnings,
        )

    def _find_cause(self, error: ToolFailed | psycopg.Error) -> StrongroomError:
        """The cause of a backup that ended early: if the server died, that explains more than ``error``."""
        try:
            with connect(self._server, timeout=5, patience=10) as connection:
                query(connection, "SELECT 1")
        except ServerFailed as gone:
            said = f"\n{error.message}" if isinstance(error, ToolFailed) else ""
            return ServerFailed(
                f"the server died during the backup: {gone.message}{said}", remedy="Start the server, then back up again."
            )
        if isinstance(error, ToolFailed):
            return error
        return ServerFailed(
            f"{describe_server(self._server)} broke off the backup: {str(error).strip()}",
            remedy="See its error log, then back up again.",
        )


def checks_pages(connection: Connection) -> bool:
    """Whether all pages have checksums; false while checksums are being enabled or disabled."""
    return query(connection, "SELECT current_setting('data_checksums')") == [("on",)]
