"""The session of a backup by mariadb-backup or XtraBackup, which are used in the same way: the tool writes a stream to a pipe."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Positions
from strongroom.datastores.innodb import options, witness
from strongroom.datastores.innodb.binlog.files import read_created
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.innodb.checkpoints import Checkpoints, read_checkpoints, read_positions
from strongroom.datastores.innodb.connection import connect, describe_server, find_account, query
from strongroom.datastores.innodb.paths import find_socket
from strongroom.datastores.protocol.backups import BackupRequest, BackupResult, Inspection
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.feed import Piped
from strongroom.errors import ConfigurationError, LineageChanged, ServerFailed, StrongroomError, ToolFailed
from strongroom.system.directories import walk_tree
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

COMPLETED = "completed OK!"
"""The last line of a tool that has succeeded."""
_LOGS = re.compile(r"ib_logfile\d+|ibtmp\d+|.+\.\d{6,}|galera\.cache")


class Session(Piped, ABC):
    """A running backup tool. The caller reads ``stdout`` to its end and calls ``finish``."""

    option_group: str
    """The group of the option file that the tool reads."""

    def __init__(self, server: Server, request: BackupRequest, *, server_version: str, tool_version: str) -> None:
        self.data_bytes = _measure_data(server.data_dir)
        self.inspection: Inspection | None = None
        self.expected = self.data_bytes if request.kind == "full" else None
        self._server = server
        self._request = request
        self._server_version = server_version
        self._tool_version = tool_version
        self._meta = request.work_dir / "meta"
        self._meta.mkdir(mode=0o700)
        path = request.work_dir / "backup.cnf"
        write_file(path, options.format_options(self.option_group, self._options()), find_owner(request.work_dir))
        argv = self._command(path)
        if request.kind == "incremental":
            assert request.parent is not None and request.parent.to_lsn is not None
            argv.append(f"--incremental-lsn={request.parent.to_lsn}")
        self._tool = self._run_tool(argv, request.work_dir / "backup.log")

    @abstractmethod
    def _command(self, option_file: Path) -> list[str]:
        """The command of the tool, without the options of an incremental."""

    def _options(self) -> Mapping[str, str | int | Path | None]:
        """All options in the option file of the tool. The option files of the server are not included, because their groups could
        change what is backed up.

        The tool queries the server itself for what it needs to know of it (directories, page size, keys).
        """
        user, password = find_account(self._server)
        found: dict[str, str | int | Path | None] = {"datadir": self._server.data_dir, "user": user, "password": password}
        found["tmpdir"] = self._request.work_dir
        if (socket := find_socket(self._server)) is not None:
            found["socket"] = socket
        else:
            found |= {"host": self._server.address or "127.0.0.1", "port": self._server.port or 3306}
        return found

    def finish(self) -> BackupResult:
        """Raises ToolFailed unless the tool reported success; ServerFailed when the server died."""
        self._close()
        try:
            self._tool.check(COMPLETED)
        except ToolFailed as error:
            raise self._find_cause(error) from error
        finally:
            self._end_watch()
        checkpoints = read_checkpoints(self._meta)
        kind = "incremental" if self._request.kind == "incremental" else "full-backuped"
        if checkpoints is None or checkpoints.backup_type != kind:
            raise ToolFailed(f"{self._tool.name} reported success, but wrote no checkpoints of a {self._request.kind} backup")
        wanted = self._request.parent.to_lsn if self._request.parent and kind == "incremental" else 0
        if checkpoints.from_lsn != wanted:
            raise ToolFailed(f"{self._tool.name} read from LSN {checkpoints.from_lsn} instead of {wanted}")
        self._require_contents(checkpoints)
        positions = self._identify_log(read_positions(self._meta, checkpoints, self._tool.log))
        left, warnings = witness.leave_witness(self._server)
        return BackupResult(
            tool=self._tool.name,
            tool_version=self._tool_version,
            server_version=self._server_version,
            positions=positions,
            data_bytes=self.data_bytes,
            witness=left,
            warnings=warnings,
        )

    def _require_contents(self, checkpoints: Checkpoints) -> None:
        """Raise when the stream does not contain what it should, although the tool reported success."""

    def _identify_log(self, positions: Positions) -> Positions:
        """Add what a log archive needs to find the position: a name and an offset alone may be those of another log."""
        try:
            with connect(self._server, timeout=5, patience=10) as connection:
                found: dict[str, str | int | None] = {"server_uuid": self._find_identity(connection)}
                if positions.binlog_file is not None:
                    found["binlog_created"] = read_created(connection, positions.binlog_file)
                    with suppress(pymysql.MySQLError):  # an account may have no right to it
                        found["binlog_upper"] = _find_end(connection)
        except (StrongroomError, pymysql.MySQLError):  # the backup is complete without it
            return positions
        return positions.model_copy(update=found)

    @abstractmethod
    def _find_identity(self, connection: Connection[Cursor]) -> str | None:
        """The UUID of the server, as series of its log archive have it."""

    def _find_cause(self, error: ToolFailed) -> StrongroomError:
        """The server's death, when it died, is the cause of the tool's error."""
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

    def _end_watch(self) -> None:
        """End what watches the tool."""

    def abort(self) -> None:
        """End the tool and close the pipe."""
        self._end_watch()
        self._close()
        self._tool.abort()


def _find_end(connection: Connection[Cursor]) -> str | None:
    """The end of the binary log."""
    files = query(connection, "SHOW BINARY LOGS")
    return str(Position(str(files[-1][0]), int(files[-1][1]))) if files else None


def require_parent_lsn(request: BackupRequest) -> None:
    """Raises ConfigurationError when the parent of an incremental has no LSN."""
    if request.kind == "incremental" and (request.parent is None or request.parent.to_lsn is None):
        raise ConfigurationError("the parent backup has no LSN", remedy="Take a full backup.")


def require_history(server: Server, request: BackupRequest, lsn: int) -> None:
    """Raises LineageChanged when the server, which is at ``lsn``, has not reached the end of the parent."""
    if request.parent is not None and lsn < (request.parent.to_lsn or 0):
        raise LineageChanged(
            f"{describe_server(server)} is at LSN {lsn}, before the end of the parent backup at {request.parent.to_lsn}: "
            "its data was replaced by an older copy",
            remedy="Take a full backup.",
        )


def _measure_data(data_dir: Path) -> int:
    """Bytes of the files in a full backup: those of the data directory without redo and binary logs."""
    total = 0
    for entry in walk_tree(data_dir):
        if not _LOGS.fullmatch(entry.name):
            with suppress(OSError):
                total += entry.stat(follow_symlinks=False).st_size if entry.is_file(follow_symlinks=False) else 0
    return total
