"""The witness of a server: after the end of each backup a restore point and a replication origin, both named after the token.

The restore point is a WAL record at a known position, so an incremental of WAL finds it in the WAL that it reads. The origin is
a row of a shared catalog. It is part of the data like any other row, so it disappears and returns with the data, and it remains
when the WAL was removed. It needs no database, schema or table, replicates nothing, and requires two rights that can be granted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg

from strongroom.artifact import Witness
from strongroom.datastores.postgresql.files import wal
from strongroom.datastores.postgresql.files.lsn import parse_lsn
from strongroom.datastores.postgresql.server.account import find_account
from strongroom.datastores.postgresql.server.connection import Connection, connect, describe_server, query
from strongroom.datastores.protocol.backups import BackupRequest
from strongroom.datastores.protocol.servers import Finding, Server
from strongroom.datastores.toolkit.lineage import ensure_lineage
from strongroom.datastores.toolkit.witness import (
    KEPT_TOKENS,
    WITNESS_FILE,
    WITNESS_LOST,
    WITNESS_NEVER_WRITTEN,
    describe_process,
    explain_no_proof,
    has_token,
    keep_token,
    new_token,
    require_same_process,
    require_written,
)
from strongroom.errors import ConfigurationError, LineageChanged, StrongroomError
from strongroom.system.files import read_text

_PATIENCE = 30
_ORIGIN, _POINT = "strongroom", "strongroom"
_POINT_RIGHT = "pg_create_restore_point(text)"
_ORIGIN_RIGHTS = ("pg_replication_origin_create(text)", "pg_replication_origin_drop(text)")
_RECORD = 104
"""Size of the record of a restore point in bytes, aligned."""
_HEADERS = (24, 40)
"""Size of the header of a WAL page, and of the first page of a file."""
_MAX_HISTORY = 1 << 20


def leave_witness(server: Server) -> tuple[Witness | None, list[str]]:
    """Write a token after the end of a backup. An error here does not invalidate the backup: it has no witness then, and a
    warning explains why the next backup will be a full.
    """
    try:
        lineage, token = ensure_lineage(server.data_dir), new_token()
        evidence: dict[str, str] = {}
        with connect(server, patience=_PATIENCE) as connection:
            query(connection, "SET synchronous_commit = local")  # an unreachable standby must not stop a backup
            if _has_rights(connection, _POINT_RIGHT):
                ((lsn,),) = query(connection, "SELECT pg_create_restore_point(%s)::text", f"{_POINT} {token}")
                evidence["lsn"] = str(lsn)
            if _has_rights(connection, *_ORIGIN_RIGHTS):
                with suppress(psycopg.errors.InsufficientPrivilege):  # PostgreSQL 13 requires a superuser, whatever was granted
                    _write_origin(connection, lineage, token)
                    evidence["origin"] = "yes"
        if not evidence:
            evidence = describe_process(_read_postmaster_pid(server))
            return (
                (Witness(evidence=evidence), [])
                if evidence
                else (None, [_describe_failure(server, "the account has no right to")])
            )
        keep_token(server.data_dir, lineage, token)
    except (StrongroomError, psycopg.Error, OSError) as error:
        return None, [_describe_failure(server, error.message if isinstance(error, StrongroomError) else str(error).strip())]
    return Witness(token=token, evidence=evidence), []


def _write_origin(connection: Connection, lineage: str, token: str) -> None:
    """Add the row; drop rows of other lineages and the oldest surplus ones. Names contain a sequence number."""
    mine = sorted(_list_origins(connection, lineage))
    number = int(mine[-1].split(":")[2]) + 1 if mine else 1
    with connection.transaction():
        query(connection, "SELECT pg_replication_origin_create(%s)", f"{_ORIGIN}:{lineage}:{number:012}:{token}")
        kept = {*mine[-KEPT_TOKENS + 1 :]}
        for name in _list_origins(connection):
            if name not in kept and not name.endswith(f":{token}"):
                query(connection, "SELECT pg_replication_origin_drop(%s)", name)


def _list_origins(connection: Connection, lineage: str | None = None) -> list[str]:
    """Names of the rows that Strongroom wrote."""
    found = query(
        connection, "SELECT roname FROM pg_replication_origin WHERE roname ~ %s", rf"^{_ORIGIN}:[0-9a-f]{{32}}:\d{{12}}:"
    )
    return [str(name) for (name,) in found if lineage is None or str(name).startswith(f"{_ORIGIN}:{lineage}:")]


def _has_rights(connection: Connection, *functions: str) -> bool:
    ((allowed,),) = query(
        connection, "SELECT bool_and(has_function_privilege(name, 'execute')) FROM unnest(%s::text[]) AS name", list(functions)
    )
    return bool(allowed)


def _describe_failure(server: Server, why: str) -> str:
    return f"The next backup must be a full: no token could be written into {describe_server(server)} ({why.rstrip('.')})."


def _read_postmaster_pid(server: Server) -> int | None:
    try:
        first, _, _ = (read_text(server.data_dir / "postmaster.pid") or "").partition("\n")
    except ConfigurationError:
        return None
    return int(first) if first.isdigit() else None


# --- the proof


def require_witness(connection: Connection, server: Server, request: BackupRequest, history: wal.History | None = None) -> None:
    """Raises LineageChanged unless the server proves that its history contains the parent of an incremental.

    With ``history``, the WAL since the parent must exist and contain the restore point. Without it, the WAL may be missing if the
    row exists.
    """
    name = describe_server(server)
    witness = require_written(name, request.parent_witness)
    if witness.token is None:
        require_same_process(name, witness, _read_postmaster_pid(server), lambda: describe_grant(connection, server))
        return
    lineage = ensure_lineage(server.data_dir)
    if not has_token(server.data_dir, lineage, witness.token):
        raise _explain_lost(server, str(server.data_dir / WITNESS_FILE))
    row = "origin" in witness.evidence
    if row and not any(name.endswith(f":{witness.token}") for name in _list_origins(connection, lineage)):
        raise _explain_lost(server, "pg_replication_origin")
    lsn = witness.evidence.get("lsn")
    if lsn is None:
        if not row:
            raise explain_no_proof(name, WITNESS_NEVER_WRITTEN)
        return
    found = _in_wal(connection, server, lsn, witness.token, history)
    if found is False:
        raise _explain_lost(server, f"the WAL at {lsn}")
    if found is None and (history is not None or not row):
        raise explain_no_proof(name, f"its WAL at {lsn} is gone", "" if row else describe_grant(connection, server))


def _explain_lost(server: Server, place: str) -> LineageChanged:
    return explain_no_proof(describe_server(server), WITNESS_LOST.format(place))


def _in_wal(connection: Connection, server: Server, lsn: str, token: str, history: wal.History | None) -> bool | None:
    """Whether the record that ends at ``lsn`` contains the token; none if the WAL file was removed."""
    ((size, page, now, name),) = query(
        connection,
        "SELECT (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size'),"
        " (SELECT setting::int FROM pg_settings WHERE name = 'wal_block_size'),"
        " pg_current_wal_flush_lsn()::text, pg_walfile_name(pg_current_wal_lsn())",
    )
    try:
        end = parse_lsn(lsn)
        if end > parse_lsn(now):
            return False
        history = history or read_history(server, int(name[:8], 16))
        return token.encode() in _record_before(server.data_dir / "pg_wal", history, end, size, page)
    except FileNotFoundError:
        return None
    except (ValueError, OSError, wal.Unfit):
        return False


def _record_before(folder: Path, history: wal.History, end: int, size: int, page: int) -> bytes:
    """The bytes before ``end``, as many as the record of a restore point has, without page headers."""
    content = b""
    while len(content) < _RECORD and end > 0:
        start = (end - 1) // page * page
        first = max(start + _HEADERS[start % size == 0], end - (_RECORD - len(content)))
        if first < end:
            (name,) = history.files(start, start + 1, size)
            with (folder / name).open("rb") as file:
                file.seek(first % size)
                content = file.read(end - first) + content
        end = start
    return content


def read_history(server: Server, timeline: int) -> wal.History:
    """Read the history of a timeline of the server. Raises FileNotFoundError, OSError, Unfit."""
    if timeline == 1:
        return wal.History(1)
    text = (server.data_dir / "pg_wal" / wal.history_file(timeline)).read_bytes()[:_MAX_HISTORY]
    return wal.History.parse(timeline, text.decode(errors="replace"))


# --- what a user may do


def describe_grant(connection: Connection, server: Server) -> str:
    """The statement that grants Strongroom's user the missing rights to write tokens; empty if none are missing."""
    missing = [name for name in (_POINT_RIGHT, *_ORIGIN_RIGHTS) if not _has_rights(connection, name)]
    user = '"' + find_account(server).user.replace('"', '""') + '"'
    return f"GRANT EXECUTE ON FUNCTION {', '.join(missing)} TO {user};" if missing else ""


def examine(connection: Connection, server: Server) -> Iterator[Finding]:
    """Rights that the server's owner has to grant so that the server can always prove its history to an incremental."""
    if remedy := describe_grant(connection, server):
        yield Finding(
            level="warning",
            message=f"role {find_account(server).user} may not write all tokens after a backup: when the server was restarted "
            "since, or the WAL is gone, the next backup is a full (these rights are granted in database postgres)",
            remedy=remedy,
        )
