"""Full backups as a tar stream: by SQL and direct reads if the user has the rights, otherwise by pg_basebackup."""

from __future__ import annotations

import re
from contextlib import ExitStack, suppress
from pathlib import Path

import psycopg

from strongroom.artifact import Positions
from strongroom.datastores.postgresql.backup import base_backup, blocks, copy, slot, witness
from strongroom.datastores.postgresql.backup.copy import Copy
from strongroom.datastores.postgresql.backup.session import BaseBackup, checks_pages
from strongroom.datastores.postgresql.files import lsn, tablespaces
from strongroom.datastores.postgresql.files.manifest import CRC32C
from strongroom.datastores.postgresql.files.tree import explain_links, find_data_links
from strongroom.datastores.postgresql.profile.collations import read_collations
from strongroom.datastores.postgresql.server.account import connection_options
from strongroom.datastores.postgresql.server.connection import Connection, connect, describe_server, query
from strongroom.datastores.postgresql.server.versions import extract_number, make_sort_key, read_version, require_series
from strongroom.datastores.protocol.backups import BackupRequest
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.feed import Piped
from strongroom.errors import ConfigurationError, ToolFailed, Unsupported, VersionMismatch

COMPLETED = "base backup completed"


class Session(BaseBackup, Piped):
    """A running pg_basebackup."""

    def __init__(
        self, server: Server, request: BackupRequest, *, version: str, tool_version: str, pages: bool, parent: Path | None
    ) -> None:
        """``pages``: the server has page checksums. ``parent``: the parent's list of files, for an incremental."""
        super().__init__(server, request, version=version, spaces=())
        if pages:
            self._inspect()
        self.tool_version = tool_version
        argv = [
            str(server.version.programs["backup"]),
            *connection_options(server, request.work_dir),
            "--pgdata=-",
            "--format=tar",
            "--wal-method=fetch",
            "--checkpoint=fast",
            f"--manifest-checksums={CRC32C}",
            "--no-verify-checksums",  # it would fail at a damaged page; the inspection reports such pages
            "--label=strongroom",
            "--verbose",
            *([f"--incremental={parent}"] if parent else []),
        ]
        self._tool = self._run_tool(argv, request.work_dir / "backup.log")
        self.tool = self._tool.name

    def _complete(self) -> Positions:
        """Raises ToolFailed unless the tool reported success; ServerFailed if the server died."""
        self._close()
        try:
            self._tool.check(COMPLETED)
        except ToolFailed as error:
            raise self._find_cause(error) from error
        log = self._tool.log.read_text(encoding="utf-8", errors="replace")
        start = re.search(rf"start point: ({lsn.PATTERN}) on timeline (\d+)", log)
        stop = re.search(rf"end point: ({lsn.PATTERN})", log)
        if start is None or stop is None:
            raise ToolFailed(f"{self._tool.name} reported success, but not where the backup begins and ends")
        return Positions(wal_start=start[1], wal_stop=stop[1], timeline=int(start[2]))

    def abort(self) -> None:
        """End the tool, close the pipe and release the WAL."""
        self._close()
        self._tool.abort()
        self.held.close()


def begin(server: Server, request: BackupRequest) -> Session | base_backup.Session | Copy:
    """Start a backup, after checking that the server uses this data directory and that the tool, if needed, fits its version."""
    with ExitStack() as stack:
        connection = stack.enter_context(connect(server))
        ((number, data_dir),) = query(connection, "SELECT current_setting('server_version'), current_setting('data_directory')")
        pages = checks_pages(connection)
        server_version = extract_number(number)
        require_series(server.version, server_version, f"the server {server.name or server.id}")
        own = request.kind == "full" and copy.is_possible(connection, server)
        require_own_data(server, Path(data_dir))
        spaces = tablespaces.require_supported(connection, server)
        if links := find_data_links(server.data_dir):
            raise explain_links(links, server.data_dir)
        if not own and not blocks.can_read_all(server.data_dir):
            raise Unsupported(
                f"the server cannot read {server.data_dir / 'lost+found'}, and its base backup would fail at it",
                remedy="Remove it (rmdir), or let the account use pg_backup_start and pg_backup_stop (docs/postgresql.md).",
            )
        tool = "" if own or spaces else _require_tool(server, server_version)
        parent = None
        if request.kind == "incremental":
            parent = blocks.prepare(connection, server, request)
            witness.require_witness(connection, server, request)
        _keep_wal(connection)
        if blocks.has_summaries(connection, server):
            slot.drop(connection)
        else:
            slot.keep(connection, server)
        collations = read_collations(connection)
        session: Session | base_backup.Session | Copy
        if own:
            session = copy.begin(server, request, connection, version=server_version, pages=pages, spaces=spaces)
        elif spaces:
            session = base_backup.Session(server, request, version=server_version, pages=pages, parent=parent, spaces=spaces)
        else:
            session = Session(server, request, version=server_version, tool_version=tool, pages=pages, parent=parent)
        session.collations = collations
        session.held = stack.pop_all()
    return session


def _require_tool(server: Server, server_version: str) -> str:
    program = server.version.programs["backup"]
    tool = read_version(program)
    if tool is None or make_sort_key(tool) < make_sort_key(server_version):
        raise VersionMismatch(
            f"{program} is version {tool or 'unknown'}, but the server {server.name or server.id} is PostgreSQL {server_version}",
            remedy=f"Install version {server_version} of its programs, or a later one of that series.",
        )
    return tool


def require_own_data(server: Server, said: Path) -> None:
    """The lineage is read from the data directory, so the directory must belong to the server that is backed up."""
    try:
        same = said.samefile(server.data_dir)
    except OSError:
        same = False
    if not same:
        raise ConfigurationError(
            f"{describe_server(server)} does not use {server.data_dir}; it reports that its data is in {said}",
            remedy="Correct the data directory or the socket of the server.",
        )


def _keep_wal(connection: Connection) -> None:
    """Keep the server from recycling WAL, which is copied last, by a slot that is dropped when this connection ends.

    If all slots are in use, the backup has no slot: it fails if WAL that it needs is removed meanwhile.
    """
    with suppress(psycopg.errors.ConfigurationLimitExceeded):
        query(connection, "SELECT pg_create_physical_replication_slot('strongroom_' || pg_backend_pid(), true, true)")
