"""The witness of servers whose incrementals are their binary log: a row that is written with the log.

The transaction of the row comes after everything in the backup, so the incremental itself has to contain it. The server must
still have it at its position in the log and in the table. On a replica, and if the user may not write, the log's own bytes are
the evidence: a transaction of Strongroom would be unknown to the source of a replica.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Witness
from strongroom.datastores.innodb.connection import connect, describe_server, query
from strongroom.datastores.innodb.versions import extract_number, make_sort_key
from strongroom.datastores.innodb.witness import (
    TABLE,
    describe_failure,
    describe_grant,
    may_write_table,
    require_token,
    write_token,
)
from strongroom.datastores.protocol.backups import BackupRequest
from strongroom.datastores.protocol.servers import Finding, Server
from strongroom.datastores.toolkit.lineage import ensure_lineage
from strongroom.datastores.toolkit.tools import Tool
from strongroom.datastores.toolkit.witness import (
    TAKE_FULL,
    WITNESS_LOST,
    explain_no_proof,
    keep_token,
    new_token,
    require_written,
)
from strongroom.errors import StrongroomError, ToolFailed, WalGone
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

_PATIENCE = 30
_TRIES = 5
_HEAD, _TAIL = 4096, 65536
"""Bytes at the beginning of a log and before a position, which identify it up to there."""
_IN_USE = slice(21, 23)
"""Flags of the first event, which change when the log is closed."""
_SECOND = 1.1


def leave_witness(server: Server) -> tuple[Witness | None, list[str]]:
    """Write a token after the end of the backup. An error here does not fail the backup: it has no witness
    then, and a warning says why the next backup is a full.
    """
    try:
        lineage, token = ensure_lineage(server.data_dir), new_token()
        with connect(server, patience=_PATIENCE) as connection:
            ((logs,),) = query(connection, "SELECT @@log_bin")
            if not logs:
                return None, []  # there are no incrementals, which `check` reports
            if _replicates(connection):
                return Witness(evidence=_identify(connection)), []
            try:
                evidence = _write(connection, lineage, token)
            except pymysql.MySQLError:
                return Witness(evidence=_identify(connection)), []
        keep_token(server.data_dir, lineage, token)
    except (StrongroomError, pymysql.MySQLError, OSError) as error:
        return None, [describe_failure(server, error)]
    return Witness(token=token, evidence=evidence), []


def _replicates(connection: Connection[Cursor]) -> bool:
    """Whether the server is a replica of another; a member of a group writes for all of them."""
    found = query(
        connection,
        "SELECT 1 FROM performance_schema.replication_connection_configuration"
        " WHERE channel_name NOT LIKE 'group\\_replication\\_%' AND host <> ''",
    )
    return bool(found)


def _write(connection: Connection[Cursor], lineage: str, token: str) -> dict[str, str]:
    """Write the token into the table. Returns the positions of the log around its transaction."""
    for _ in range(_TRIES):
        before = _position(connection)
        write_token(connection, lineage, token)
        after = _position(connection)
        if before[0] != after[0]:
            continue  # a new log was begun meanwhile
        if before[1] == after[1]:
            break
        return {"log": before[0], "start": str(before[1]), "end": str(after[1])}
    raise OSError("changes of the schema mysql are not written to the binary log")


def _position(connection: Connection[Cursor]) -> tuple[str, int]:
    ((version,),) = query(connection, "SELECT @@version")
    statement = "SHOW BINARY LOG STATUS" if make_sort_key(extract_number(version)) >= (8, 2, 0) else "SHOW MASTER STATUS"
    row = query(connection, statement)[0]
    return str(row[0]), int(row[1])


def _identify(connection: Connection[Cursor]) -> dict[str, str]:
    """The end of the log, and a hash of its bytes up to there. Raises OSError if it cannot be read."""
    log, end = _position(connection)
    age = time.time() - _path(connection, log).stat().st_ctime
    if age < _SECOND:  # times in a log are whole seconds, and a log that is created again with the same name must differ
        time.sleep(_SECOND - age)
    return {"log": log, "end": str(end), "event": _digest(connection, log, end)}


def _path(connection: Connection[Cursor], log: str) -> Path:
    ((base,),) = query(connection, "SELECT @@log_bin_basename")
    return Path(str(base)).parent / Path(log).name


def _digest(connection: Connection[Cursor], log: str, end: int) -> str:
    with _path(connection, log).open("rb") as file:
        found = _piece(file, 0, min(_HEAD, end)) + _piece(file, 0 if end <= _TAIL + _HEAD else end - _TAIL, end)
    return hashlib.sha256(found).hexdigest()


def _piece(file: BinaryIO, start: int, end: int) -> bytes:
    """Bytes of a log, without the flag that it is in use. Raises OSError if it ends before ``end``."""
    file.seek(start)
    found = bytearray(file.read(end - start))
    if len(found) != end - start:
        raise OSError(f"the log ends before {end}")
    if start == 0:
        found[_IN_USE] = bytes(len(found[_IN_USE]))
    return bytes(found)


def require_witness(connection: Connection[Cursor], server: Server, request: BackupRequest, options: str) -> None:
    """Raises LineageChanged unless the server proves that its log continues the parent. ``options``: for mysqlbinlog."""
    witness = require_written(describe_server(server), request.parent_witness)
    if witness.token is not None:
        require_token(connection, server, witness.token)
        log = witness.evidence.get("log")
        if log not in {str(row[0]) for row in query(connection, "SHOW BINARY LOGS")}:
            raise WalGone(
                f"{describe_server(server)} has purged binary log {log}, which has changes since the parent backup",
                remedy=f"{TAKE_FULL} Take incrementals more often, or raise binlog_expire_logs_seconds.",
            )
        if not _in_log(server, witness, request.work_dir, options):
            raise explain_no_proof(describe_server(server), WITNESS_LOST.format(f"binary log {log}"))
    elif not _is_same_log(connection, witness):
        raise explain_no_proof(describe_server(server), "its binary log was replaced or purged since the parent backup ended")


def _is_same_log(connection: Connection[Cursor], witness: Witness) -> bool:
    log, end, event = (witness.evidence.get(name, "") for name in ("log", "end", "event"))
    try:
        return bool(event) and end.isdigit() and _digest(connection, log, int(end)) == event
    except OSError:
        return False


def _in_log(server: Server, witness: Witness, work_dir: Path, options: str) -> bool:
    """Whether the server sends the token at its position in the log."""
    log, start, end = (witness.evidence.get(name, "") for name in ("log", "start", "end"))
    if not (start.isdigit() and end.isdigit() and witness.token and log and not log.startswith("-")):
        return False
    config, found = work_dir / "witness.cnf", work_dir / "witness.sql"
    write_file(config, options, find_owner(work_dir))
    argv: list[str | Path] = [server.version.programs["binlog"], f"--defaults-file={config}", "--read-from-remote-server"]
    argv += ["--base64-output=decode-rows", "--verbose", f"--start-position={start}", f"--stop-position={end}", log]
    try:
        with found.open("wb") as file:
            tool = Tool(argv, work_dir / "witness.log", stdout=file.fileno())
            try:
                tool.check()
            finally:
                tool.abort()
        with found.open("rb") as file:
            return any(witness.token.encode() in line for line in file)
    except ToolFailed:
        return False
    finally:
        found.unlink(missing_ok=True)
        config.unlink(missing_ok=True)


def examine(connection: Connection[Cursor], server: Server) -> Iterator[Finding]:
    """Find what the owner of the server may grant for a stronger proof."""
    if not may_write_table(connection):
        yield Finding(
            level="warning",
            message=f"the account may not write into {TABLE}: only the bytes of the binary log prove incrementals",
            remedy=describe_grant(connection, server, local=False),
        )
