"""Takes an incremental: the binary log since the parent, as raw files in a tar.

With GTIDs, the server omits what the parent contains. Without, logs are fetched completely, from the one where the parent ends.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

import strongroom
from strongroom.artifact import Positions
from strongroom.datastores.innodb.binlog.files import read_created
from strongroom.datastores.innodb.connection import describe_server, query, read_variables
from strongroom.datastores.innodb.versions import extract_number, make_sort_key
from strongroom.datastores.mysql.backup.events import read_events
from strongroom.datastores.mysql.backup.fidelity import Judge, find_changed_settings
from strongroom.datastores.mysql.backup.fingerprint import Fingerprint, take_fingerprint
from strongroom.datastores.mysql.backup.logs import FULL as _FULL
from strongroom.datastores.mysql.backup.logs import Logs, client_options
from strongroom.datastores.mysql.backup.size import measure_data
from strongroom.datastores.mysql.backup.witness import leave_witness, require_witness
from strongroom.datastores.mysql.server import keyring
from strongroom.datastores.protocol.backups import BackupRequest, BackupResult
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.feed import Fed, write_all
from strongroom.datastores.toolkit.tar import BLOCK, make_header
from strongroom.errors import ConfigurationError, LineageChanged, StrongroomError, WalGone

FOLDER = "binlog"
LOG = re.compile(r"[^/\0]{1,90}\.\d{6,}")
FINGERPRINT = "strongroom/fingerprint.json"
_PIECE = 1 << 20


class Session(Fed):
    """Writes logs into a pipe, one file after the other. Each is fetched completely before it is written."""

    def __init__(self, server: Server, logs: Logs, names: list[str], positions: Positions, version: str) -> None:
        super().__init__()
        self.fingerprint: Fingerprint | None = None
        """Checksums of tables at the end of the incremental, if they could be computed."""
        self._server, self._logs, self._names = server, logs, names
        self._positions, self._version = positions, version
        self._data_bytes = measure_data(server.data_dir)

    def start(self) -> None:
        """Start the thread."""
        self._start()

    def _produce(self, out: int) -> None:
        for name in self._names:
            path = self._logs.fetch(name)
            with path.open("rb", buffering=0) as file:
                size = os.fstat(file.fileno()).st_size
                write_all(out, make_header(f"{FOLDER}/{name}", size))
                while piece := file.read(_PIECE):
                    write_all(out, piece)
                write_all(out, bytes(-size % BLOCK))
            path.unlink()
        if self.fingerprint is not None:
            data = self.fingerprint.dump()
            write_all(out, make_header(FINGERPRINT, len(data)))
            write_all(out, data + bytes(-len(data) % BLOCK))
        write_all(out, bytes(2 * BLOCK))

    def finish(self) -> BackupResult:
        """Raises WalGone, ToolFailed unless every log is complete."""
        self._join()
        witness, warnings = leave_witness(self._server)
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
        self._logs.abort()
        super().abort()


def begin(connection: Connection[Cursor], server: Server, request: BackupRequest, version: str) -> Session:
    """Begin a new log, check that all previous logs that the parent lacks exist, then start."""
    parent = request.parent
    if parent is None or parent.server_uuid is None:
        raise LineageChanged("the parent backup does not name its server", remedy=_FULL)
    ((uuid, logs, mode, form),) = query(connection, "SELECT @@server_uuid, @@log_bin, @@gtid_mode, @@binlog_format")
    if not logs:
        raise WalGone(f"{describe_server(server)} writes no binary log", remedy=f"Set log_bin and restart it. {_FULL}")
    if form != "ROW":
        raise WalGone(
            f"binlog_format of {describe_server(server)} is {form}: a replay may lead to other rows",
            remedy=f"SET PERSIST binlog_format = 'ROW'. {_FULL}",
        )
    _require_complete(connection, server)
    if read_variables(connection, "VARIABLES", "binlog_encryption").get("binlog_encryption") == "ON":
        raise WalGone(
            f"the binary log of {describe_server(server)} is encrypted (binlog_encryption), but not in an incremental",
            remedy=_FULL,
        )
    if keyring.has_keyring(connection):
        raise WalGone(
            f"{describe_server(server)} has a keyring: a replay of its binary log would create new keys in another one",
            remedy=_FULL,
        )
    if parent.server_uuid != uuid:
        raise LineageChanged(
            f"the parent backup is of server {parent.server_uuid}, and {describe_server(server)} is {uuid} now", remedy=_FULL
        )
    by_gtid = mode == "ON" and parent.gtid is not None
    if mode == "ON" and parent.gtid is None:
        raise LineageChanged("the parent backup was taken before the server had GTIDs", remedy=_FULL)
    if mode != "ON" and parent.gtid is not None:
        raise LineageChanged(f"gtid_mode of {describe_server(server)} is {mode}, and the parent backup uses GTIDs", remedy=_FULL)
    require_witness(connection, server, request, client_options(server))
    query(connection, "FLUSH BINARY LOGS")
    names = [str(row[0]) for row in query(connection, "SHOW BINARY LOGS")]
    if any(not LOG.fullmatch(name) for name in names):
        raise ConfigurationError("the binary logs have names of an unknown form", remedy="Report them.")
    last = names[-1]
    if by_gtid:
        positions = _by_gtid(connection, server, parent, last)
        wanted = _since(connection, names, parent.gtid or "")
    else:
        positions, wanted = _by_file(server, parent, names)
    positions = positions.model_copy(update={"server_uuid": uuid, "binlog_created": read_created(connection, last)})
    logs = Logs(server, request.work_dir, positions.gtid_from)
    try:
        tables = _require_replayable(logs, wanted, request, parent, by_gtid=by_gtid)
        session = Session(server, logs, wanted, positions, version)
        session.fingerprint = _take_fingerprint(connection, logs, last, tables)
        session.start()
    except BaseException:
        logs.abort()
        raise
    return session


def _require_replayable(
    logs: Logs, names: list[str], request: BackupRequest, parent: Positions, *, by_gtid: bool
) -> set[tuple[str, str]]:
    """Read every log. Returns the tables whose rows they change. Raises WalGone if a replay would fail or lead to other rows."""
    before, now = request.parent_profile, request.profile
    if before is None:
        raise WalGone("the parent backup does not contain the settings of its server", remedy=_FULL)
    reason = find_changed_settings(before, now)
    judge = Judge(now, by_gtid=by_gtid, empty={*before.empty_tables, *now.empty_tables})
    for number, name in enumerate(names if reason is None else ()):
        path = logs.fetch(name)
        begins = parent.binlog_position if not by_gtid and number == 0 else None
        judge.look(read_events(path, begins or 4))
        reason = judge.reason
        if reason is not None:
            break
        logs.spare(path)
    if reason is not None:
        logs.remove()
        raise WalGone(f"the changes since the parent backup cannot be replayed: {reason}", remedy=_FULL)
    return judge.tables


def _take_fingerprint(connection: Connection[Cursor], logs: Logs, last: str, tables: set[tuple[str, str]]) -> Fingerprint | None:
    """Checksums of tables that have not changed since the end of the incremental. None if the server does not allow it."""
    try:
        found = take_fingerprint(connection, tables)
        names = [str(row[0]) for row in query(connection, "SHOW BINARY LOGS")]
        for name in names[names.index(last) :]:
            path = logs.fetch(name)
            found.forget(read_events(path))
            path.unlink()
    except (pymysql.MySQLError, StrongroomError, ValueError):
        return None
    return found


def _by_gtid(connection: Connection[Cursor], server: Server, parent: Positions, last: str) -> Positions:
    """The end of the backup: the beginning of the new log, which names the transactions before it."""
    assert parent.gtid is not None
    # a log does not name transactions that were never in one: of a restored server, a clone, SET GLOBAL gtid_purged
    union = "SELECT GTID_SUBTRACT(CONCAT_WS(',', NULLIF(%s, ''), NULLIF(@@gtid_purged, '')), '')"
    ((reached,),) = query(connection, union, _before(connection, last))
    ((missing,),) = query(connection, "SELECT GTID_SUBTRACT(%s, @@gtid_executed)", parent.gtid)
    if missing:
        raise LineageChanged(
            f"{describe_server(server)} has not executed {_short(missing)}, which the parent backup contains: "
            "its data was replaced",
            remedy=_FULL,
        )
    ((purged,),) = query(connection, "SELECT GTID_SUBTRACT(@@gtid_purged, %s)", parent.gtid)
    if purged:
        raise WalGone(
            f"{describe_server(server)} has purged {_short(purged)} from its binary log, which the parent backup lacks",
            remedy=f"{_FULL} Take incrementals more often, or raise binlog_expire_logs_seconds.",
        )
    return Positions(gtid=str(reached).replace("\n", ""), gtid_from=parent.gtid, binlog_file=last, binlog_position=4)


def _by_file(server: Server, parent: Positions, names: list[str]) -> tuple[Positions, list[str]]:
    start = parent.binlog_file
    if start is None or start not in names:
        raise WalGone(
            f"binary log {start} of {describe_server(server)}, in which the parent backup ends, is gone",
            remedy=f"{_FULL} Take incrementals more often, or raise binlog_expire_logs_seconds.",
        )
    wanted = names[names.index(start) : -1]
    return Positions(binlog_from=start, binlog_file=names[-1], binlog_position=4), wanted


def _since(connection: Connection[Cursor], names: list[str], known: str) -> list[str]:
    """Closed logs, without those that the parent contains completely. Each begins with the transactions before it."""
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
    raise ConfigurationError(f"binary log {log} does not name the transactions before it", remedy=_FULL)


def read_current_position(connection: Connection[Cursor]) -> tuple[str, int]:
    """Name and position of the current log."""
    statement = "SHOW BINARY LOG STATUS" if _has_new_words(connection) else "SHOW MASTER STATUS"
    row = query(connection, statement)[0]
    return str(row[0]), int(row[1])


def _has_new_words(connection: Connection[Cursor]) -> bool:
    ((version,),) = query(connection, "SELECT @@version")
    return make_sort_key(extract_number(version)) >= (8, 2, 0)


def _require_complete(connection: Connection[Cursor], server: Server) -> None:
    """Raises WalGone if the server excludes changes from its binary log."""
    statement = "SHOW BINARY LOG STATUS" if _has_new_words(connection) else "SHOW MASTER STATUS"
    _, _, only, without, *_ = query(connection, statement)[0]
    if only or without:
        raise WalGone(
            f"{describe_server(server)} excludes databases from its binary log "
            f"({'binlog_do_db' if only else 'binlog_ignore_db'})",
            remedy=f"Remove the option. {_FULL}",
        )
    if is_replica(connection) and not _logs_replicated(connection):
        raise WalGone(
            f"{describe_server(server)} is a replica and excludes replicated changes from its binary log "
            "(log_replica_updates is OFF)",
            remedy=f"Set log_replica_updates = ON. {_FULL}",
        )


def _logs_replicated(connection: Connection[Cursor]) -> bool:
    found = read_variables(connection, "VARIABLES", "log\\_%\\_updates")
    return (found.get("log_replica_updates") or found.get("log_slave_updates")) != "OFF"


def is_replica(connection: Connection[Cursor]) -> bool:
    """Whether it has a source of replication, or is a member of a group."""
    ((count,),) = query(connection, "SELECT COUNT(*) FROM mysql.slave_master_info")
    return bool(count)


def _short(gtids: str) -> str:
    text = gtids.replace("\n", "")
    return text if len(text) <= 200 else f"{text[:200]}…"
