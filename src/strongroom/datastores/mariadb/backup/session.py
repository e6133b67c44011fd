"""Taking a backup: mariadb-backup, streaming to a pipe. XtraBackup of MySQL is run in the same way."""

from __future__ import annotations

import fcntl
import os
import re
import struct
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from strongroom.datastores.innodb import options as options_module
from strongroom.datastores.innodb import witness as witness_module
from strongroom.datastores.innodb.checkpoints import positions, read_checkpoints
from strongroom.datastores.innodb.connection import account, connect, query, server_pid, variables, where
from strongroom.datastores.innodb.outside import system_files
from strongroom.datastores.innodb.paths import socket_of
from strongroom.datastores.innodb.versions import number_of
from strongroom.datastores.mariadb.backup import redo
from strongroom.datastores.mariadb.backup.locks import LockWatch
from strongroom.datastores.mariadb.profile.layout import left_out, walk_of
from strongroom.datastores.mariadb.profile.tables import name_some
from strongroom.datastores.mariadb.server.versions import require_tool
from strongroom.datastores.protocol.datastore import BackupRequest, BackupResult, Inspection
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.feed import Piped
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import ConfigurationError, LineageChanged, ServerFailed, StrongroomError, ToolFailed
from strongroom.system.directories import walk_tree
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

COMPLETED = "completed OK!"
LOST = "lost+found"
"""A directory of the file system, when that is the data directory: the tool stops at it."""
_ABOUT = "SELECT @@version, @@datadir, @@ignore_db_dirs, @@innodb_data_home_dir, @@innodb_data_file_path"
_OPEN_FILES = 65535
_LOG_COPY_INTERVAL = 50
"""Milliseconds between two looks at the redo log; the tool waits for the last of them at its end (its default is 1000)."""
_LOGS = re.compile(r"ib_logfile\d+|ibtmp\d+|.+\.\d{6,}|galera\.cache")


class Session(Piped):
    """A running mariadb-backup. ``stdout`` is read by the caller to its end, then ``finish`` is called."""

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
        """``left_out`` names directories in the data directory that are no databases."""
        self.data_bytes = _data_bytes(server.data_dir)
        self.inspection: Inspection | None = None
        self.expected = self.data_bytes if request.kind == "full" else None
        self._server = server
        self._request = request
        self._server_version = server_version
        self._tool_version = tool_version
        self._meta = request.work_dir / "meta"
        self._meta.mkdir(mode=0o700)
        options = request.work_dir / "backup.cnf"
        write_file(options, _backup_options(server, request.work_dir), find_owner(request.work_dir))
        self._left_out = [name for name in left_out if (server.data_dir / name).is_dir()]
        self._walked = self._walk()
        argv = self._command(options)
        if galera:
            argv.append("--galera-info")
        if request.kind == "incremental":
            assert request.parent is not None and request.parent.to_lsn is not None
            argv.append(f"--incremental-lsn={request.parent.to_lsn}")
        write = self._open()
        try:
            self._tool = Tool(argv, request.work_dir / "backup.log", stdout=write)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(write)
        self._locks = LockWatch(server, self._tool, request.tell) if server.datastore == "mariadb" else None

    def _command(self, options: Path) -> list[str]:
        """The tool with what it is always told."""
        return [
            str(self._server.version.programs["backup"]),
            f"--defaults-file={options}",
            "--backup",
            "--stream=mbstream",
            f"--parallel={self._request.parallel}",
            f"--extra-lsndir={self._meta}",
            f"--open-files-limit={_OPEN_FILES}",
            f"--log-copy-interval={_LOG_COPY_INTERVAL}",
            *([f"--databases-exclude={' '.join(self._left_out)}"] if self._left_out else []),
        ]

    def finish(self) -> BackupResult:
        """Raises ToolFailed unless the tool said that all is well; ServerFailed when the server has gone."""
        self._close()
        try:
            self._tool.check(COMPLETED)
        except ToolFailed as error:
            if self._locks is not None and self._locks.why is not None:
                raise self._locks.why from error
            raise self._blame(error) from error
        finally:
            self._end_watch()
        checkpoints = read_checkpoints(self._meta)
        kind = "incremental" if self._request.kind == "incremental" else "full-backuped"
        if checkpoints is None or checkpoints.backup_type != kind:
            raise ToolFailed(f"{self._tool.name} ended well, but left no record of a {self._request.kind} backup")
        wanted = self._request.parent.to_lsn if self._request.parent and kind == "incremental" else 0
        if checkpoints.from_lsn != wanted:
            raise ToolFailed(f"{self._tool.name} read from LSN {checkpoints.from_lsn} instead of {wanted}")
        self._require_all_files()
        if self._server.datastore == "mariadb" and redo.LOG_FILE in self._request.kept:
            redo.require_own_log(self._server, self._request.kept[redo.LOG_FILE], checkpoints.to_lsn, checkpoints.last_lsn)
        witness, warnings = witness_module.leave(self._server)
        return BackupResult(
            tool=self._tool.name,
            tool_version=self._tool_version,
            server_version=self._server_version,
            positions=positions(self._meta, checkpoints, self._tool.log),
            data_bytes=self.data_bytes,
            witness=witness,
            warnings=warnings,
        )

    def _end_watch(self) -> None:
        if self._locks is not None:
            self._locks.stop()

    def _walk(self) -> dict[str, tuple[int, int]]:
        if self._server.datastore != "mariadb":
            return {}
        found = walk_of(self._server.data_dir)
        return {path: inode for path, inode in found.items() if path.partition("/")[0] not in self._left_out}

    def _require_all_files(self) -> None:
        """Every file of a table that was there all the time has to be in the stream, whatever the tool says."""
        paths = self._request.paths()
        if not paths:
            return
        if missing := left_out(self._walked, self._walk(), paths):
            raise ToolFailed(
                f"{self._tool.name} ended well, but left out files of tables: {name_some(missing)}",
                remedy="Look at the log of the backup; what stands in an option file of the server is not used for it.",
            )

    def _blame(self, error: ToolFailed) -> StrongroomError:
        """A server that died is the better explanation of a tool that failed."""
        try:
            with connect(self._server, timeout=5, patience=10) as connection:
                query(connection, "SELECT 1")
        except ServerFailed as gone:
            return ServerFailed(
                f"the server died during the backup: {gone.message}\n{error.message}",
                remedy="Start the server, then back up again.",
            )
        except StrongroomError:
            pass
        return error

    def abort(self) -> None:
        """End the tool and close the pipe."""
        self._end_watch()
        self._close()
        self._tool.abort()


def begin(server: Server, request: BackupRequest) -> Session:
    """Check that the tool fits the server and that the server serves the data directory that will be read, then start."""
    if request.kind == "incremental" and (request.parent is None or request.parent.to_lsn is None):
        raise ConfigurationError("the parent backup tells no LSN to go on from", remedy="Take a full backup.")
    with connect(server) as connection:
        ((version, data_dir, ignored, home, files),) = query(connection, _ABOUT)
        galera = variables(connection, "VARIABLES", "wsrep_on").get("wsrep_on") == "ON"
        lsn = int(variables(connection, "STATUS", "Innodb_lsn_current")["innodb_lsn_current"])
        pid = server_pid(connection)
        require_history(server, request, lsn)
        witness_module.require(connection, server, request)
    tool = require_tool(server.version.programs["backup"], version, f"the server {server.name or server.id}")
    require_own_data(server, Path(data_dir), pid, system_files(home or "", files)[0])
    left_out = {LOST, *(name for name in str(ignored or "").split(",") if re.fullmatch(r"[A-Za-z0-9_.+@-]+", name))}
    return Session(
        server, request, server_version=number_of(version), tool_version=tool, galera=galera, left_out=sorted(left_out)
    )


def require_history(server: Server, request: BackupRequest, lsn: int) -> None:
    """Raises LineageChanged when the server, which is at ``lsn``, has not come as far as the parent."""
    if request.parent is not None and lsn < (request.parent.to_lsn or 0):
        raise LineageChanged(
            f"{where(server)} is at LSN {lsn}, before the end of the parent backup at {request.parent.to_lsn}: "
            "its data was replaced by an older copy",
            remedy="Take a full backup.",
        )


def _backup_options(server: Server, work_dir: Path) -> str:
    """All options that the tool gets. The owner's files are not included: groups of theirs would change what is backed up.

    What matters of the server (directories, page size, keys) the tool asks the server itself.
    """
    user, password = account(server)
    socket = socket_of(server)
    options: dict[str, str | int | Path | None] = {"datadir": server.data_dir, "user": user, "password": password}
    options["tmpdir"] = work_dir
    if server.datastore == "mariadb":
        options["protocol"] = "tcp" if socket is None else "socket"
    if socket is not None:
        options["socket"] = socket
    else:
        options |= {"host": server.address or "127.0.0.1", "port": server.port or 3306}
    return options_module.dump("xtrabackup" if server.datastore == "mysql" else "mariadb-backup", options)


def _data_bytes(data_dir: Path) -> int:
    """Bytes of the files that a full backup holds, so without redo and binary logs."""
    total = 0
    for entry in walk_tree(data_dir):
        if not _LOGS.fullmatch(entry.name):
            with suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
    return total


def require_own_data(server: Server, said: Path, pid: int | None, system: Path = Path("ibdata1")) -> None:
    """Files and positions must come from one server: a backup of two restores without an error, and has lost rows.

    ``system`` is the first file of the system tablespace, which is in the data directory as a rule.
    """
    try:
        same = said.samefile(server.data_dir)
        fd = os.open(server.data_dir / system, os.O_RDONLY)
    except PermissionError as error:
        raise ConfigurationError(
            f"the data directory {server.data_dir} cannot be read by the OS user {server.user}: {error.filename}",
            remedy="Run the job as the OS user of the server, or give that user the right to read.",
        ) from error
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{where(server)} says that its data is in {said}, but {error.filename} does not exist on this host",
            remedy="Backups are taken on the host of the server: check the address and the data directory.",
        ) from error
    try:
        holder = _lock_holder(fd)
    finally:
        os.close(fd)
    if not same or holder is None or (holder > 0 and pid is not None and pid != holder):
        raise ConfigurationError(
            f"{where(server)} does not serve {server.data_dir}; it says that its data is in {said}",
            remedy="Correct the data directory or the socket of the server.",
        )


def _lock_holder(fd: int) -> int | None:
    """Process id of the server that has the file open, 0 or less when it is in another PID namespace, none when there is none.

    InnoDB holds a POSIX write lock on its system tablespace as long as it runs.
    """
    layout = "hhqqi"
    probe = struct.pack(layout, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = struct.unpack(layout, fcntl.fcntl(fd, fcntl.F_GETLK, probe))
    return None if kind == fcntl.F_UNLCK else int(pid)
