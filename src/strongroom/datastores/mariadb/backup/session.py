"""A backup by mariadb-backup."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Collection, Mapping
from pathlib import Path

from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.innodb import backup, witness
from strongroom.datastores.innodb.checkpoints import Checkpoints
from strongroom.datastores.innodb.connection import connect, describe_server, find_server_pid, query, read_variables
from strongroom.datastores.innodb.outside import find_system_files
from strongroom.datastores.innodb.paths import find_socket
from strongroom.datastores.innodb.versions import extract_number
from strongroom.datastores.mariadb.backup import redo
from strongroom.datastores.mariadb.backup.locks import LockWatch
from strongroom.datastores.mariadb.binlog.identity import find_identity
from strongroom.datastores.mariadb.galera.lineage import ensure_lineage
from strongroom.datastores.mariadb.profile.layout import explain_denied, find_left_out, walk_of
from strongroom.datastores.mariadb.server.versions import require_tool
from strongroom.datastores.protocol.backups import BackupRequest
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.names import name_some
from strongroom.errors import ConfigurationError, StrongroomError, ToolFailed

LOST = "lost+found"
"""A directory at the root of a file system. The tool fails at it."""
_ABOUT = "SELECT @@version, @@datadir, @@ignore_db_dirs, @@innodb_data_home_dir, @@innodb_data_file_path"
_OPEN_FILES = 65535
_LOG_COPY_INTERVAL = 50
"""Milliseconds between two reads of the redo log; the tool waits for the last one at its end (its default is 1000)."""


class Session(backup.Session):
    """A running mariadb-backup."""

    option_group = "mariadb-backup"

    def __init__(
        self,
        server: Server,
        request: BackupRequest,
        *,
        server_version: str,
        tool_version: str,
        galera: bool,
        left_out: Collection[str] = (),
    ) -> None:
        """``left_out`` names directories in the data directory that are not databases."""
        self._galera = galera
        self._left_out = [name for name in left_out if (server.data_dir / name).is_dir()]
        self._walked = self._walk(server.data_dir)
        super().__init__(server, request, server_version=server_version, tool_version=tool_version)
        try:
            self._locks = LockWatch(server, self._tool, request.tell)
        except BaseException:
            self._close()
            self._tool.abort()
            raise

    def _command(self, option_file: Path) -> list[str]:
        return [
            str(self._server.version.programs["backup"]),
            f"--defaults-file={option_file}",
            "--backup",
            "--stream=mbstream",
            f"--parallel={self._request.parallel}",
            f"--extra-lsndir={self._meta}",
            f"--open-files-limit={_OPEN_FILES}",
            f"--log-copy-interval={_LOG_COPY_INTERVAL}",
            *([f"--databases-exclude={' '.join(self._left_out)}"] if self._left_out else []),
            *(["--galera-info"] if self._galera else []),
        ]

    def _options(self) -> Mapping[str, str | int | Path | None]:
        return {**super()._options(), "protocol": "tcp" if find_socket(self._server) is None else "socket"}

    def _find_identity(self, connection: Connection[Cursor]) -> str:
        return find_identity(ensure_lineage(self._server.data_dir))

    def _require_contents(self, checkpoints: Checkpoints) -> None:
        self._require_all_files()
        if redo.LOG_FILE in self._request.kept:
            redo.require_own_log(self._server, self._request.kept[redo.LOG_FILE], checkpoints.to_lsn, checkpoints.last_lsn)

    def _walk(self, data_dir: Path) -> dict[str, tuple[int, int]]:
        found = walk_of(data_dir)
        return {path: inode for path, inode in found.items() if path.partition("/")[0] not in self._left_out}

    def _require_all_files(self) -> None:
        """Require that the stream contains every file of a table that existed during the whole backup."""
        paths = self._request.paths()
        if not paths:
            return
        if missing := find_left_out(self._walked, self._walk(self._server.data_dir), paths):
            raise ToolFailed(
                f"{self._tool.name} reported success, but left out files of tables: {name_some(missing)}",
                remedy="See the log of the backup. Option files of the server are not used for backups.",
            )

    def _find_cause(self, error: ToolFailed) -> StrongroomError:
        return self._locks.why or super()._find_cause(error)

    def _end_watch(self) -> None:
        self._locks.stop()


def begin(server: Server, request: BackupRequest) -> Session:
    """Check that the tool supports the server and that the server uses the data directory that will be read, then start."""
    backup.require_parent_lsn(request)
    with connect(server) as connection:
        ((version, data_dir, ignored, home, files),) = query(connection, _ABOUT)
        galera = read_variables(connection, "VARIABLES", "wsrep_on").get("wsrep_on") == "ON"
        lsn = int(read_variables(connection, "STATUS", "Innodb_lsn_current")["innodb_lsn_current"])
        pid = find_server_pid(connection)
        backup.require_history(server, request, lsn)
        witness.require_witness(connection, server, request)
    tool = require_tool(server.version.programs["backup"], version, f"the server {server.name or server.id}")
    require_own_data(server, Path(data_dir), pid, find_system_files(home or "", files)[0])
    left_out = {LOST, *(name for name in str(ignored or "").split(",") if re.fullmatch(r"[A-Za-z0-9_.+@-]+", name))}
    return Session(
        server, request, server_version=extract_number(version), tool_version=tool, galera=galera, left_out=sorted(left_out)
    )


def require_own_data(server: Server, said: Path, pid: int | None, system: Path = Path("ibdata1")) -> None:
    """Require that files and positions are from one server: a backup of two restores without an error, but loses rows.

    ``system`` is the first file of the system tablespace, which is usually in the data directory.
    """
    try:
        same = said.samefile(server.data_dir)
        fd = os.open(server.data_dir / system, os.O_RDONLY)
    except PermissionError as error:
        raise explain_denied(server, error) from error
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{describe_server(server)} reports that its data is in {said}, but {error.filename} does not exist on this host",
            remedy="Check the address and the data directory: backups are taken on the host of the server.",
        ) from error
    try:
        holder = _lock_holder(fd)
    finally:
        os.close(fd)
    if not same or holder is None or (holder > 0 and pid is not None and pid != holder):
        raise ConfigurationError(
            f"{describe_server(server)} does not use {server.data_dir}; it reports that its data is in {said}",
            remedy="Correct the data directory or the socket of the server.",
        )


def _lock_holder(fd: int) -> int | None:
    """Process id of the server that has the file open; 0 or less if it is in another PID namespace; none without a server.

    InnoDB holds a POSIX write lock on its system tablespace while it runs.
    """
    layout = "hhqqi"
    probe = struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = struct.unpack(layout, fcntl.fcntl(fd, fcntl.F_GETLK, probe))
    return None if kind == fcntl.F_UNLCK else int(pid)
