"""A full backup: Strongroom is the recipient of a clone, and writes it into a tar while it arrives."""

from __future__ import annotations

import re
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

import strongroom
from strongroom.artifact import Positions
from strongroom.datastores.innodb import options
from strongroom.datastores.innodb.binlog.files import read_created
from strongroom.datastores.innodb.connection import connect, describe_server, query, quote_name, split_error
from strongroom.datastores.innodb.versions import extract_number, extract_series, make_sort_key
from strongroom.datastores.mysql.backup import incremental, keys
from strongroom.datastores.mysql.backup.archive import Archive
from strongroom.datastores.mysql.backup.clone import (
    DELETED_OR_RENAMED,
    DONE,
    FILES,
    PAGES,
    PATIENCE,
    REDO,
    Block,
    Clone,
    File,
    State,
)
from strongroom.datastores.mysql.backup.size import measure_data
from strongroom.datastores.mysql.backup.witness import leave_witness
from strongroom.datastores.mysql.profile.read import list_foreign_tables, list_outside_tablespaces
from strongroom.datastores.mysql.server import keyring
from strongroom.datastores.mysql.server.versions import CLONES
from strongroom.datastores.protocol.backups import BackupRequest, BackupResult, BackupSession
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.feed import Fed
from strongroom.errors import Busy, ConfigurationError, ServerFailed, StrongroomError, ToolFailed, VersionMismatch

DDL_PATIENCE = 300
"""Seconds that the backup waits for running DDL, and that DDL waits for the backup before the backup is aborted."""
STALL = 60
"""Seconds without progress before the backup is aborted, if DDL waits for it. There is no such limit otherwise."""
BUSY_PATIENCE = 30
"""Seconds to wait for the end of another copy: a server allows one at a time, and notices late that a recipient died."""
_LOOK = 1.0
_IDENTITY = "auto.cnf"
_REDO_FILE = f"{keys.REDO_FOLDER}/#ib_redo{{}}"
_SCHEMA = re.compile(r"[A-Za-z0-9_$@-]+")
_MARKERS = {
    "#clone/#status_fix": "",
    "#clone/#replace_files": "",
    "#clone/#view_status": "2 1\n0 0\nSTRONGROOM\n0\n\n\n0\n\n",
    "#clone/#view_progress": "1\n" + "2 1 0 0 0 0 0\n" * 5 + "0 0 0 0 0 0 0\n" * 2,
}
"""Files that a local clone leaves in its copy. With them a server that starts on the copy reports its position."""


class Session(Fed):
    """A running copy. The caller reads ``stdout`` to its end, then calls ``finish``."""

    def __init__(self, server: Server, clone: Clone, facts: dict[str, Any], version: str) -> None:
        super().__init__()
        self.held = ExitStack()
        """Connections, closed at the end."""
        self.expected = self.data_bytes = measure_data(server.data_dir)
        self._server, self._clone, self._facts, self._version = server, clone, facts, version
        self._keys = keys.Keys(server.data_dir)
        self._lower: Positions | None = None
        self._upper = Positions()
        self._complete = False
        self._moved = time.monotonic()
        self._why: StrongroomError | None = None
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._watcher.start()
        self._start()

    def finish(self) -> BackupResult:
        """Raises ServerFailed unless the copy is complete."""
        try:
            self._join()
        except (OSError, EOFError, pymysql.MySQLError) as error:
            raise self._find_cause(error) from error
        finally:
            self._over.set()
        if not self._complete or self._lower is None:
            raise ToolFailed("the copy ended too early")
        witness, warnings = leave_witness(self._server)
        return BackupResult(
            tool="strongroom",
            tool_version=strongroom.__version__,
            server_version=self._version,
            positions=self._lower.model_copy(update={"gtid_upper": self._upper.gtid, "binlog_upper": _name_end(self._upper)}),
            data_bytes=self.data_bytes,
            witness=witness,
            warnings=[*([f"{keyring.WARNING}: {keyring.REMEDY}"] if self._keys.masters else []), *warnings],
        )

    def abort(self) -> None:
        """Abort the copy, and tell the server, so that it releases its locks immediately."""
        self._over.set()
        if not self._complete:
            self._clone.close()
            _kill(self._server, self._clone.ids)
        super().abort()
        with suppress(pymysql.MySQLError):
            self.held.close()

    # --- the copy

    def _produce(self, out: int) -> None:
        archive = Archive(out)
        for name in self._facts["directories"]:
            archive.directory(name)
        files: dict[tuple[int, int], File] = {}
        done = 0
        for event in self._clone.events():
            self._moved = time.monotonic()
            if isinstance(event, File):
                self._learn(event, files)
            elif isinstance(event, Block):
                self._put(event, files, archive)
            elif event.begins:
                self._facts["states"].append({"state": event.number, "bytes": event.estimate})
                if event.number == PAGES:  # certainly before the end of the copy
                    self._lower = read_position(self._server)
            else:
                self._end_of(event, files, archive)
            done = event.number if isinstance(event, State) else done
        if done != DONE:
            raise ToolFailed("the server ended the copy too early")
        self._clone.end()
        self._upper = read_position(self._server)
        for path, text in _MARKERS.items():
            archive.file(path, text.encode())
        assert self._lower is not None
        donor = self._clone.donor
        self._facts |= {"protocol": donor.protocol, "donor": donor.settings, "plugins": donor.plugins}
        self._facts |= {"gtid": self._lower.gtid, "gtid_upper": self._upper.gtid, "master_keys": sorted(self._keys.masters)}
        archive.end(self._facts)
        self._complete = True

    def _learn(self, file: File, files: dict[tuple[int, int], File]) -> None:
        if file.flags & DELETED_OR_RENAMED:
            raise ServerFailed(f"{file.name} was renamed or dropped during the copy", remedy="Back up again.")
        files[file.state, file.index] = file

    def _put(self, block: Block, files: dict[tuple[int, int], File], archive: Archive) -> None:
        file = files.get((FILES if block.state == PAGES else block.state, block.index))
        if file is None:
            raise ServerFailed(f"the server sent data of an unannounced file {block.index}", remedy="Report it.")
        path = self._path(file)
        if not archive.seen(path):
            archive.open(path, file.size)
        if not self._keys.concern(file, block):
            archive.put(path, block, self._clone)
            return
        data = self._keys.hide(path, file, block, self._clone.take(block.length))
        if data is not None:
            archive.put(path, block, keys.Held(data))

    def _path(self, file: File) -> str:
        """The path in the data directory. Some paths are absolute (as written in ``CREATE TABLESPACE``)."""
        path = file.name.removeprefix("./") or _REDO_FILE.format(file.index)
        if path.startswith("/"):
            with suppress(ValueError):
                path = str(Path(path).resolve().relative_to(self._server.data_dir.resolve()))
        if path.startswith("/") or ".." in path.split("/"):
            raise ConfigurationError(f"the server has data in {path}, outside its data directory", remedy="Move it.")
        return path

    def _end_of(self, state: State, files: dict[tuple[int, int], File], archive: Archive) -> None:
        """Write files for which no block arrived: they are empty, or zeros."""
        archive.close()
        if state.number in (FILES, REDO):
            for (number, _), file in files.items():
                if number == state.number and not archive.seen(self._path(file)):
                    archive.open(self._path(file), file.size)
        archive.close()
        if state.number == REDO:
            for path, block, data in self._keys.late():
                archive.put(path, block, keys.Held(data))

    # --- statements that wait for the backup

    def _watch(self) -> None:
        """Abort the copy if a statement has waited for the backup for too long."""
        try:
            with connect(self._server) as connection:
                while not self._over.wait(_LOOK):
                    waited = max((int(row[5] or 0) for row in query(connection, "SHOW PROCESSLIST") if _waits(row)), default=0)
                    if waited >= DDL_PATIENCE or (waited and time.monotonic() - self._moved > STALL):
                        self._why = ServerFailed(
                            f"the backup was aborted: a statement that changes tables had been waiting for it for {waited} s",
                            remedy="Back up when no tables are changed.",
                        )
                        self._clone.close()
                        _kill(self._server, self._clone.ids)
                        return
        except (StrongroomError, pymysql.MySQLError):
            return  # the copy will notice it too

    def _find_cause(self, error: Exception) -> StrongroomError:
        """The cause of a broken connection."""
        if self._why is not None:
            return self._why
        try:
            with connect(self._server, timeout=5, patience=10) as connection:
                query(connection, "SELECT 1")
        except StrongroomError as gone:
            return ServerFailed(
                f"the server died during the backup: {gone.message}", remedy="Start the server, then back up again."
            )
        return ServerFailed(
            f"{describe_server(self._server)} aborted the copy: {error or 'the connection was closed'}",
            remedy="See its error log, then back up again.",
        )


def begin(server: Server, request: BackupRequest) -> BackupSession:
    """Check that the server can be copied completely and that it uses the data directory, then start."""
    with connect(server) as connection:
        ((version, data_dir, uuid),) = query(connection, "SELECT @@version, @@datadir, @@server_uuid")
        require_own_data(server, Path(data_dir), uuid)
        if extract_series(extract_number(version)) != server.version.series:
            raise VersionMismatch(
                f"{describe_server(server)} is MySQL {version}, not {server.version.series}",
                remedy="Correct the version of the instance.",
            )
        if request.kind == "incremental":
            return incremental.begin(connection, server, request, extract_number(version))
        _require_whole(connection, server, version)
        encrypted = keyring.has_encryption(connection)
        if encrypted:
            keyring.require_keyring(connection, server)
        persisted = dict(query(connection, "SELECT variable_name, variable_value FROM performance_schema.persisted_variables"))
        ((lower_case, page_size, files),) = query(
            connection, "SELECT @@lower_case_table_names, @@innodb_page_size, @@innodb_data_file_path"
        )
    with ExitStack() as stack:
        clone = _open(server, encrypted, stack)
        try:
            facts: dict[str, Any] = {
                "format": 1,
                "version": version,
                "settings": {
                    "lower_case_table_names": lower_case,
                    "innodb_page_size": page_size,
                    "innodb_data_file_path": files,
                },
                "persisted": persisted,
                "directories": _directories(server.data_dir),
                "states": [],
            }
            session = Session(server, clone, facts, extract_number(version))
        except BaseException:
            clone.close()
            raise
        session.held = stack.pop_all()
    try:
        session.start()
    except BaseException:
        session.abort()
        raise
    return session


def _open(server: Server, encrypted: bool, held: ExitStack) -> Clone:
    """Request a copy. Wait for a server that still ends the copy of a worker that died. ``held`` receives the connections."""
    deadline = time.monotonic() + BUSY_PATIENCE
    while True:
        with ExitStack() as stack:
            pair = [stack.enter_context(connect(server, patience=PATIENCE, tls=encrypted)) for _ in range(2)]
            try:
                clone = Clone(pair[0], pair[1])
                clone.begin(DDL_PATIENCE)
            except Busy:
                if time.monotonic() > deadline:
                    raise
            except (OSError, EOFError) as error:
                raise ServerFailed(
                    f"{describe_server(server)} aborted the connection: {error or 'closed'}", remedy="See its error log."
                ) from error
            else:
                held.enter_context(stack.pop_all())
                return clone
        time.sleep(0.2)


def _name_end(position: Positions) -> str | None:
    return f"{position.binlog_file}:{position.binlog_position}" if position.binlog_file else None


def read_position(server: Server) -> Positions:
    """The current position of the server."""
    with connect(server) as connection:
        ((uuid, logs),) = query(connection, "SELECT @@server_uuid, @@log_bin")
        log = incremental.read_current_position(connection) if logs else None
        created = read_created(connection, log[0]) if log else None
        return Positions(
            gtid=read_executed_gtids(connection),
            binlog_file=log[0] if log else None,
            binlog_position=log[1] if log else None,
            binlog_created=created,
            server_uuid=uuid,
        )


def read_executed_gtids(connection: Connection[Cursor]) -> str | None:
    """The set of executed GTIDs; empty if GTIDs are off."""
    ((mode, found),) = query(connection, "SELECT @@gtid_mode, @@gtid_executed")
    return str(found).replace("\n", "") if mode == "ON" else None


def require_own_data(server: Server, said: Path, uuid: str) -> None:
    """Require that files, lineage and positions are from one server: it reports this directory, and the UUID in the directory.

    The lock on the first file proves nothing: a server loses it when it is cloned.
    """
    try:
        same = (
            said.samefile(server.data_dir)
            and options.read_options(server.data_dir / _IDENTITY, ["auto"]).get("server-uuid") == uuid
        )
    except (OSError, ConfigurationError):
        same = False
    if not same:
        raise ConfigurationError(
            f"{describe_server(server)} does not use {server.data_dir}; it reports that its data is in {said}",
            remedy="Correct the data directory or the socket of the server.",
        )


# --- what a clone does not contain


def _require_whole(connection: Connection[Cursor], server: Server, version: str) -> None:
    if make_sort_key(version) < CLONES:
        raise ConfigurationError(
            f"{describe_server(server)} is MySQL {version}, which has no clone plugin",
            remedy="Install XtraBackup of its series, or upgrade the server.",
        )
    if not query(connection, "SELECT 1 FROM information_schema.plugins WHERE plugin_name = 'clone' AND plugin_status = 'ACTIVE'"):
        raise ConfigurationError(
            f"{describe_server(server)} has no clone plugin loaded", remedy="INSTALL PLUGIN clone SONAME 'mysql_clone.so';"
        )
    others = list_foreign_tables(connection)
    if others:
        named = ", ".join(f"{_name(schema, table)} ({engine})" for schema, table, engine in others)
        raise ConfigurationError(
            f"a backup of {describe_server(server)} would contain only tables of InnoDB, and it has others: {named}",
            remedy="; ".join(f"ALTER TABLE {_name(schema, table)} ENGINE = InnoDB" for schema, table, _ in others) + ".",
        )
    elsewhere = list_outside_tablespaces(connection, server.data_dir)
    if elsewhere:
        raise ConfigurationError(
            f"{describe_server(server)} has tablespaces outside its data directory: {', '.join(elsewhere)}",
            remedy="Move them into it; a restore cannot restore them there.",
        )


def _name(schema: str, table: str) -> str:
    return f"{quote_name(schema)}.{quote_name(table)}"


def _directories(data_dir: Path) -> list[str]:
    """Directories of the schemas, by the server's names for them. A clone does not report empty ones."""
    found = (path for path in data_dir.iterdir() if path.is_dir() and not path.is_symlink() and _SCHEMA.fullmatch(path.name))
    return sorted({"mysql", *(path.name for path in found)})


def _waits(row: tuple[Any, ...]) -> bool:
    return bool(row[6] == "Waiting for backup lock")


def _kill(server: Server, ids: tuple[int, int]) -> None:
    """Kill the server's connections, because it may not have noticed the abort."""
    try:
        with connect(server, timeout=5, patience=10) as connection:
            for number in ids:
                try:
                    query(connection, f"KILL {number}")
                except pymysql.MySQLError as error:
                    if split_error(error)[0] != 1094:  # it has ended already
                        raise
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and any(row[0] in ids for row in query(connection, "SHOW PROCESSLIST")):
                time.sleep(0.05)
    except (StrongroomError, pymysql.MySQLError):
        return  # a server that does not answer holds no lock for long
