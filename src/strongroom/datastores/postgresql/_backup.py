"""Taking a backup: a full by ourselves where we may, else by pg_basebackup, a tar stream to a pipe."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg

from strongroom.artifact import Collation, Positions
from strongroom.datastores._feed import Piped
from strongroom.datastores._process import Tool
from strongroom.datastores._protocol import BackupRequest, BackupResult, Inspection
from strongroom.datastores._servers import Server
from strongroom.datastores.postgresql import (
    _base_backup,
    _block_backup,
    _collations,
    _copy,
    _lsn,
    _tablespaces,
    _wal_slot,
    _witness,
)
from strongroom.datastores.postgresql._account import connection_options
from strongroom.datastores.postgresql._connection import Connection, connect, query, where
from strongroom.datastores.postgresql._copy import Copy
from strongroom.datastores.postgresql._inspection import PageInspection
from strongroom.datastores.postgresql._manifest import OURS
from strongroom.datastores.postgresql._tree import data_bytes, data_links, refused
from strongroom.datastores.postgresql._versions import key, number_in, require_series, version_of
from strongroom.errors import ConfigurationError, ServerFailed, StrongroomError, ToolFailed, Unsupported, VersionMismatch

COMPLETED = "base backup completed"


class Session(Piped):
    """A running pg_basebackup. ``stdout`` is read by the caller to its end, then ``finish`` is called."""

    def __init__(
        self, server: Server, request: BackupRequest, *, server_version: str, tool_version: str, pages: bool, parent: Path | None
    ) -> None:
        """``pages``: the server has checksums of its pages. ``parent``: list of files of what an incremental stands on."""
        self.data_bytes = data_bytes(server.data_dir)
        self.expected: int | None = None if parent else self.data_bytes
        self.inspection: Inspection | None = PageInspection(server.data_dir) if pages else None
        self._server, self._request = server, request
        self._server_version = server_version
        self._tool_version = tool_version
        self.held = ExitStack()
        """What is let go of at the end: the connection that keeps the WAL."""
        self.collations: list[Collation] = []
        argv = [
            str(server.version.programs["backup"]),
            *connection_options(server, request.work_dir),
            "--pgdata=-",
            "--format=tar",
            "--wal-method=fetch",
            "--checkpoint=fast",
            f"--manifest-checksums={OURS}",
            "--no-verify-checksums",  # it would give up at a damaged page, of which we tell
            "--label=strongroom",
            "--verbose",
            *([f"--incremental={parent}"] if parent else []),
        ]
        write = self._open()
        try:
            self._tool = Tool(argv, request.work_dir / "backup.log", stdout=write)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(write)

    def finish(self) -> BackupResult:
        """Raises ToolFailed unless the tool said that all is well; ServerFailed when the server has gone."""
        self._close()
        try:
            self._tool.check(COMPLETED)
        except ToolFailed as error:
            raise self._blame(error) from error
        log = self._tool.log.read_text(encoding="utf-8", errors="replace")
        start = re.search(rf"start point: ({_lsn.PATTERN}) on timeline (\d+)", log)
        stop = re.search(rf"end point: ({_lsn.PATTERN})", log)
        if start is None or stop is None:
            raise ToolFailed(f"{self._tool.name} ended well, but did not say where the backup begins and ends")
        positions = Positions(wal_start=start[1], wal_stop=stop[1], timeline=int(start[2]))
        with connect(self._server) as connection:
            _tablespaces.require_same((), _tablespaces.read(connection), self._server)
            if not checks_pages(connection):
                self.inspection = None
            ((size, standby),) = query(
                connection, "SELECT pg_size_bytes(current_setting('wal_segment_size'))::int, pg_is_in_recovery()"
            )
        _tablespaces.require_unchanged(self._server, positions, size, self._request.work_dir, standby=standby)
        positions = _block_backup.described(self._server, self._request, positions)
        witness, warnings = _witness.leave(self._server)
        return BackupResult(
            tool=self._tool.name,
            tool_version=self._tool_version,
            server_version=self._server_version,
            positions=positions,
            data_bytes=self.data_bytes,
            collations=self.collations,
            witness=witness,
            warnings=warnings,
        )

    def _blame(self, error: ToolFailed) -> StrongroomError:
        """A server that died is a better explanation of a tool that failed."""
        try:
            with connect(self._server, timeout=5, patience=10) as connection:
                query(connection, "SELECT 1")
        except ServerFailed as gone:
            return ServerFailed(
                f"the server died during the backup: {gone.message}\n{error.message}",
                remedy="Start the server, then back up again.",
            )
        return error

    def abort(self) -> None:
        """End the tool, close the pipe and let go of the WAL."""
        self._close()
        self._tool.abort()
        self.held.close()


def begin(server: Server, request: BackupRequest) -> Session | _base_backup.Session | Copy:
    """Check that the server serves the data directory, and that the tool fits it where it is needed, then start."""
    with ExitStack() as stack:
        connection = stack.enter_context(connect(server))
        ((number, data_dir, pages),) = query(
            connection,
            "SELECT current_setting('server_version'), current_setting('data_directory'),"
            " current_setting('data_checksums') = 'on'",
        )
        server_version = number_in(number)
        require_series(server.version, server_version, f"the server {server.name or server.id}")
        own = request.kind == "full" and _copy.possible(connection, server)
        require_own_data(server, Path(data_dir))
        spaces = _tablespaces.require_supported(connection, server)
        if links := data_links(server.data_dir):
            raise refused(links, server.data_dir)
        if not own and not _block_backup.can_read_all(server.data_dir):
            raise Unsupported(
                f"the server cannot read {server.data_dir / 'lost+found'}, and its base backup would fail at it",
                remedy="Remove it (rmdir), or let the account use pg_backup_start and pg_backup_stop (docs/postgresql.md).",
            )
        tool = "" if own or spaces else _require_tool(server, server_version)
        parent = None
        if request.kind == "incremental":
            parent = _block_backup.prepare(connection, server, request)
            _witness.require(connection, server, request)
        _keep_wal(connection)
        if _block_backup.summarizes(connection, server):
            _wal_slot.drop(connection)
        else:
            _wal_slot.keep(connection, server)
        collations = _collations.used(connection)
        session: Session | _base_backup.Session | Copy
        if own:
            session = _copy.begin(server, request, connection, version=server_version, pages=pages, spaces=spaces)
        elif spaces:
            session = _base_backup.Session(server, request, version=server_version, pages=pages, parent=parent, spaces=spaces)
        else:
            session = Session(server, request, server_version=server_version, tool_version=tool, pages=pages, parent=parent)
        session.collations = collations
        session.held = stack.pop_all()
    return session


def _require_tool(server: Server, server_version: str) -> str:
    program = server.version.programs["backup"]
    tool = version_of(program)
    if tool is None or key(tool) < key(server_version):
        raise VersionMismatch(
            f"{program} is version {tool or 'unknown'}, but the server {server.name or server.id} is PostgreSQL {server_version}",
            remedy=f"Install version {server_version} of its programs, or a later one of that series.",
        )
    return tool


def require_own_data(server: Server, said: Path) -> None:
    """The lineage is read from the directory: it must be that of the server that is backed up."""
    try:
        same = said.samefile(server.data_dir)
    except OSError:
        same = False
    if not same:
        raise ConfigurationError(
            f"{where(server)} does not serve {server.data_dir}; it says that its data is in {said}",
            remedy="Correct the data directory or the socket of the server.",
        )


def checks_pages(connection: Connection) -> bool:
    """Whether all pages have checksums. From PostgreSQL 19 on they are switched on and off while the server runs."""
    return query(connection, "SELECT current_setting('data_checksums')") == [("on",)]


def _keep_wal(connection: Connection) -> None:
    """WAL is copied last. A slot that goes with this connection keeps the server from recycling it until then.

    Where all slots are in use, the backup goes without: it fails when WAL that it needs was removed meanwhile.
    """
    with suppress(psycopg.errors.ConfigurationLimitExceeded):
        query(connection, "SELECT pg_create_physical_replication_slot('strongroom_' || pg_backend_pid(), true, true)")
