"""Taking an incremental: the binary log since the parent, as raw files in a tar.

With GTIDs the server leaves out what the parent holds. Without, the logs are taken whole from the one in which the parent ends.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

from pymysql.connections import Connection
from pymysql.cursors import Cursor

import strongroom
from strongroom.artifact import Positions
from strongroom.datastores._feed import Fed, write_all
from strongroom.datastores._files import owner_of, write_file
from strongroom.datastores._process import Tool
from strongroom.datastores._protocol import BackupRequest, BackupResult
from strongroom.datastores._servers import Server
from strongroom.datastores._tar import BLOCK, header
from strongroom.datastores.mariadb import _options
from strongroom.datastores.mariadb._config import socket_of
from strongroom.datastores.mariadb._connection import account, query, variables, where
from strongroom.datastores.mysql import _keyring, _witness
from strongroom.datastores.mysql._size import data_bytes
from strongroom.errors import ConfigurationError, LineageChanged, StrongroomError, ToolFailed, WalGone

FOLDER = "binlog"
LOG = re.compile(r"[^/\0]{1,90}\.\d{6,}")
_FULL = "Take a full backup; incrementals can go on from that."
_PIECE = 1 << 20
_MAGIC = b"\xfebin"


class Session(Fed):
    """Logs on their way into a pipe, one file after the other, each fetched whole before it is sent."""

    def __init__(self, server: Server, request: BackupRequest, logs: list[str], positions: Positions, version: str) -> None:
        super().__init__()
        self._server, self._request, self._logs = server, request, logs
        self._positions, self._version = positions, version
        self._tool: Tool | None = None
        self._aborted = False
        self._data_bytes = data_bytes(server.data_dir)
        self._start()

    def _produce(self, out: int) -> None:
        folder = self._request.work_dir / FOLDER
        folder.mkdir(mode=0o700)
        options = self._request.work_dir / "binlog.cnf"
        write_file(options, _client_options(self._server), owner_of(self._request.work_dir))
        for log in self._logs:
            self._fetch(options, folder, log)
            path = folder / log
            with path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                if file.read(4) != _MAGIC:
                    raise ToolFailed(f"mysqlbinlog ended well, and {log} is no binary log")
                file.seek(0)
                write_all(out, header(f"{FOLDER}/{log}", size))
                while piece := file.read(_PIECE):
                    write_all(out, piece)
                write_all(out, bytes(-size % BLOCK))
            path.unlink()
        write_all(out, bytes(2 * BLOCK))

    def _fetch(self, options: Path, folder: Path, log: str) -> None:
        gtid = self._positions.gtid_from
        source = [_PLAIN] if gtid is None else [_BY_GTID, *([f"--exclude-gtids={gtid}"] if gtid else [])]
        if self._aborted:
            return
        self._tool = Tool(
            [
                self._server.version.programs["binlog"],
                f"--defaults-file={options}",
                *source,
                "--raw",
                f"--result-file={folder}/",
                log,
            ],
            self._request.work_dir / "backup.log",
        )
        try:
            self._tool.check()
        except ToolFailed as error:
            raise _blame(error) from error

    def finish(self) -> BackupResult:
        """Raises WalGone, ToolFailed unless every log came whole."""
        self._join()
        witness, warnings = _witness.leave(self._server)
        return BackupResult(
            tool="mysqlbinlog",
            tool_version=strongroom.__version__,
            server_version=self._version,
            positions=self._positions,
            data_bytes=self._data_bytes,
            witness=witness,
            warnings=warnings,
        )

    def abort(self) -> None:
        """End the tool, then the thread."""
        self._aborted = True
        if self._tool is not None:
            self._tool.abort()
        super().abort()


_PLAIN = "--read-from-remote-server"
_BY_GTID = "--read-from-remote-source=BINLOG-DUMP-GTIDS"


def begin(connection: Connection[Cursor], server: Server, request: BackupRequest, version: str) -> Session:
    """Begin another log, see that all before it that the parent lacks is there, then start."""
    parent = request.parent
    if parent is None or parent.server_uuid is None:
        raise LineageChanged("the parent backup does not say of which server it is", remedy=_FULL)
    ((uuid, logs, mode, form),) = query(connection, "SELECT @@server_uuid, @@log_bin, @@gtid_mode, @@binlog_format")
    if not logs:
        raise WalGone(f"{where(server)} writes no binary log", remedy=f"Set log_bin and restart it. {_FULL}")
    if form != "ROW":
        raise WalGone(
            f"binlog_format of {where(server)} is {form}: what it holds may do something else when it is replayed",
            remedy=f"SET PERSIST binlog_format = 'ROW'. {_FULL}",
        )
    if variables(connection, "VARIABLES", "binlog_encryption").get("binlog_encryption") == "ON":
        raise WalGone(
            f"the binary log of {where(server)} is encrypted (binlog_encryption), and an incremental would hold it in clear",
            remedy=_FULL,
        )
    if _keyring.has_keyring(connection):
        raise WalGone(
            f"{where(server)} has a keyring: to replay its binary log would put new keys into another one",
            remedy=_FULL,
        )
    if parent.server_uuid != uuid:
        raise LineageChanged(
            f"the parent backup is of server {parent.server_uuid}, and {where(server)} is {uuid} now", remedy=_FULL
        )
    by_gtid = mode == "ON" and parent.gtid is not None
    if mode == "ON" and parent.gtid is None:
        raise LineageChanged("the parent backup was taken before the server had GTIDs", remedy=_FULL)
    if mode != "ON" and parent.gtid is not None:
        raise LineageChanged(f"gtid_mode of {where(server)} is {mode}, and the parent backup goes by GTIDs", remedy=_FULL)
    _witness.require(connection, server, request, _client_options(server))
    query(connection, "FLUSH BINARY LOGS")
    names = [str(row[0]) for row in query(connection, "SHOW BINARY LOGS")]
    if any(not LOG.fullmatch(name) for name in names):
        raise ConfigurationError("the binary logs have names that we do not know", remedy="Report them.")
    last = names[-1]
    if by_gtid:
        positions = _by_gtid(connection, server, parent, last)
        wanted = _since(connection, names, parent.gtid or "")
    else:
        positions, wanted = _by_file(server, parent, names)
    positions = positions.model_copy(update={"server_uuid": uuid})
    return Session(server, request, wanted, positions, version)


def _by_gtid(connection: Connection[Cursor], server: Server, parent: Positions, last: str) -> Positions:
    """The backup ends where the new log begins, which says what was before it."""
    assert parent.gtid is not None
    reached = _before(connection, last)
    ((missing,),) = query(connection, "SELECT GTID_SUBTRACT(%s, @@gtid_executed)", parent.gtid)
    if missing:
        raise LineageChanged(
            f"{where(server)} has not executed {_short(missing)}, which the parent backup holds: its data was replaced",
            remedy=_FULL,
        )
    ((purged,),) = query(connection, "SELECT GTID_SUBTRACT(@@gtid_purged, %s)", parent.gtid)
    if purged:
        raise WalGone(
            f"{where(server)} has purged {_short(purged)} from its binary log, which the parent backup lacks",
            remedy=f"{_FULL} Take incrementals more often, or raise binlog_expire_logs_seconds.",
        )
    return Positions(gtid=reached, gtid_from=parent.gtid, binlog_file=last, binlog_position=4)


def _by_file(server: Server, parent: Positions, names: list[str]) -> tuple[Positions, list[str]]:
    start = parent.binlog_file
    if start is None or start not in names:
        raise WalGone(
            f"binary log {start} of {where(server)}, in which the parent backup ends, is gone",
            remedy=f"{_FULL} Take incrementals more often, or raise binlog_expire_logs_seconds.",
        )
    wanted = names[names.index(start) : -1]
    return Positions(binlog_from=start, binlog_file=names[-1], binlog_position=4), wanted


def _since(connection: Connection[Cursor], names: list[str], known: str) -> list[str]:
    """Closed logs, without those that the parent holds whole. The first of a run begins with what was before it."""
    wanted: list[str] = []
    for name, after in reversed(list(pairwise(names))):
        ((missing,),) = query(connection, "SELECT GTID_SUBTRACT(%s, %s)", _before(connection, after), known)
        if not missing:
            break
        wanted.append(name)
    return wanted[::-1]


def _before(connection: Connection[Cursor], log: str) -> str:
    """The GTIDs of all logs before this one."""
    for row in query(connection, "SHOW BINLOG EVENTS IN %s LIMIT 4", log):
        if row[2] == "Previous_gtids":
            return str(row[5]).replace("\n", "")
    raise ConfigurationError(f"binary log {log} does not say what was before it", remedy=_FULL)


def current(connection: Connection[Cursor]) -> tuple[str, int]:
    """Name of the log that is written, and how far."""
    statement = "SHOW BINARY LOG STATUS" if _has_new_words(connection) else "SHOW MASTER STATUS"
    row = query(connection, statement)[0]
    return str(row[0]), int(row[1])


def _has_new_words(connection: Connection[Cursor]) -> bool:
    ((version,),) = query(connection, "SELECT @@version")
    return tuple(int(part) for part in str(version).split(".")[:2]) >= (8, 2)


def _client_options(server: Server) -> str:
    user, password = account(server)
    socket = socket_of(server)
    place: dict[str, str | int | Path | None] = (
        {"socket": socket} if socket else {"host": server.address or "127.0.0.1", "port": server.port or 3306}
    )
    return _options.dump("client", {"user": user, "password": password, **place})


def _blame(error: ToolFailed) -> StrongroomError:
    if "purged" in error.message or "Could not find first log" in error.message or "impossible position" in error.message:
        return WalGone(f"the server has purged what the parent backup lacks: {error.message}", remedy=_FULL)
    return error


def _short(gtids: str) -> str:
    text = gtids.replace("\n", "")
    return text if len(text) <= 200 else f"{text[:200]}…"
