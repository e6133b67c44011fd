"""The witness of servers whose pages of InnoDB are backed up: a row in a table of Strongroom, after the end of each backup.

InnoDB recovers to a prefix of its log. So a state with the row contains everything that was logged before it, which is everything
in the backup. The row is not written to the binary log. In a cluster it stays on its node: other nodes have other logs.
"""

from __future__ import annotations

from collections.abc import Iterator

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Witness
from strongroom.datastores.innodb.connection import connect, describe_server, find_server_pid, query, read_variables, split_error
from strongroom.datastores.protocol.backups import BackupRequest
from strongroom.datastores.protocol.servers import Finding, Server
from strongroom.datastores.toolkit.lineage import ensure_lineage
from strongroom.datastores.toolkit.witness import (
    KEPT_TOKENS,
    WITNESS_FILE,
    WITNESS_LOST,
    describe_process,
    explain_no_proof,
    has_token,
    keep_token,
    new_token,
    require_same_process,
    require_written,
)
from strongroom.errors import StrongroomError

SCHEMA, NAME = "mysql", "strongroom_witness"
TABLE = f"{SCHEMA}.{NAME}"
RIGHTS = ("SELECT", "INSERT", "DELETE", "CREATE")
_CREATE = (
    f"CREATE TABLE IF NOT EXISTS {TABLE} (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,"
    " lineage CHAR(32) CHARACTER SET ascii NOT NULL, token CHAR(32) CHARACTER SET ascii NOT NULL,"
    " written TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB"
)
_PATIENCE = 30
"""Seconds for each statement. After that the backup has no witness."""
_NO_RIGHT = {1044, 1142, 1143, 1227}
_READ_ONLY = {1290, 1836}
"""The server is a replica, and the account may not write to it."""
_MISSING = {1049, 1146}


def leave_witness(server: Server) -> tuple[Witness | None, list[str]]:
    """Write a token after the end of the backup. An error here does not fail the backup: it has no witness then, and a warning
    says why the next backup will be a full.
    """
    pid = None
    try:
        lineage, token = ensure_lineage(server.data_dir), new_token()
        with connect(server, patience=_PATIENCE) as connection:
            pid = find_server_pid(connection)
            keep_local(connection)
            write_token(connection, lineage, token)
        keep_token(server.data_dir, lineage, token)
    except (StrongroomError, pymysql.MySQLError, OSError) as error:
        evidence = describe_process(pid) if split_error(error)[0] in _NO_RIGHT | _READ_ONLY else {}
        return (Witness(evidence=evidence), []) if evidence else (None, [describe_failure(server, error)])
    return Witness(token=token), []


def keep_local(connection: Connection[Cursor]) -> None:
    """Keep the writes of this session out of the binary log and of the cluster."""
    ((logs,),) = query(connection, "SELECT @@log_bin")
    if logs:
        query(connection, "SET SESSION sql_log_bin = 0")
    if read_variables(connection, "VARIABLES", "wsrep_on").get("wsrep_on") == "ON":
        query(connection, "SET SESSION wsrep_on = OFF")


def write_token(connection: Connection[Cursor], lineage: str, token: str) -> None:
    """Insert the token into the table, which is created if necessary, and delete tokens that no incremental can need."""
    prepare_table(connection)
    query(connection, f"INSERT INTO {TABLE} (lineage, token) VALUES (%s, %s)", lineage, token)  # noqa: S608
    query(connection, f"DELETE FROM {TABLE} WHERE lineage <> %s", lineage)  # noqa: S608
    kept = query(connection, f"SELECT id FROM {TABLE} ORDER BY id DESC LIMIT 1 OFFSET {KEPT_TOKENS}")  # noqa: S608
    for (oldest,) in kept:
        query(connection, f"DELETE FROM {TABLE} WHERE id <= {int(oldest)}")  # noqa: S608


def prepare_table(connection: Connection[Cursor]) -> None:
    """Create the table if it is missing. Raises OSError if it has another engine, whose log proves nothing."""
    query(connection, f"SET SESSION lock_wait_timeout = {_PATIENCE // 2}, SESSION innodb_lock_wait_timeout = {_PATIENCE // 2}")
    if not _engine(connection):
        query(connection, _CREATE)
    if (engine := _engine(connection)) != "InnoDB":
        raise OSError(f"table {TABLE} is {engine or 'missing'}, and not InnoDB")


def _engine(connection: Connection[Cursor]) -> str | None:
    rows = query(
        connection, "SELECT engine FROM information_schema.tables WHERE table_schema = %s AND table_name = %s", SCHEMA, NAME
    )
    return str(rows[0][0]) if rows else None


def holds_token(connection: Connection[Cursor], lineage: str, token: str) -> bool:
    """Whether the table has the token. Raises pymysql.MySQLError."""
    try:
        return bool(query(connection, f"SELECT 1 FROM {TABLE} WHERE lineage = %s AND token = %s", lineage, token))  # noqa: S608
    except pymysql.MySQLError as error:
        if split_error(error)[0] not in _MISSING | _NO_RIGHT:
            raise
        return False


def require_witness(connection: Connection[Cursor], server: Server, request: BackupRequest) -> None:
    """Raises LineageChanged unless the server proves that its history contains the parent of an incremental."""
    if request.kind != "incremental":
        return
    name = describe_server(server)
    witness = require_written(name, request.parent_witness)
    if witness.token is None:
        require_same_process(name, witness, find_server_pid(connection), lambda: describe_grant(connection, server))
    else:
        require_token(connection, server, witness.token)


def require_token(connection: Connection[Cursor], server: Server, token: str) -> None:
    """Raises LineageChanged unless the token is in the data and in the file."""
    lineage = ensure_lineage(server.data_dir)
    if not holds_token(connection, lineage, token):
        raise explain_no_proof(describe_server(server), WITNESS_LOST.format(TABLE))
    if not has_token(server.data_dir, lineage, token):
        raise explain_no_proof(describe_server(server), WITNESS_LOST.format(server.data_dir / WITNESS_FILE))


def describe_failure(server: Server, error: Exception) -> str:
    """A sentence for users: the backup is good, and the next one will be a full."""
    said = error.message if isinstance(error, StrongroomError) else split_error(error)[1]
    remedy = ""
    if split_error(error)[0] in _NO_RIGHT:
        remedy = " `strongroom check` names the rights that incrementals need."
    return (
        f"The next backup must be a full: no token could be written into {describe_server(server)} ({said.rstrip('.')}).{remedy}"
    )


# --- what an account may do


def describe_grant(connection: Connection[Cursor], server: Server, *, local: bool = True) -> str:
    """The statements that grant Strongroom's account the right to write tokens, outside the binary log if ``local``."""
    ((account, logs),) = query(connection, "SELECT CURRENT_USER(), @@log_bin")
    name, _, host = str(account).rpartition("@")
    quoted = "@".join("'" + part.replace("'", "''") + "'" for part in (name, host))
    apart = "BINLOG ADMIN" if server.datastore == "mariadb" else "BINLOG_ADMIN"
    first = f"GRANT {apart} ON *.* TO {quoted}; " if local and logs else ""
    return f"{first}GRANT {', '.join(RIGHTS)} ON {TABLE} TO {quoted};"


def may_write(connection: Connection[Cursor]) -> bool:
    """Whether the account may write tokens. Runs the statements that change nothing, and reads the rights on the table."""
    try:
        keep_local(connection)
    except pymysql.MySQLError as error:
        if split_error(error)[0] in _NO_RIGHT:
            return False
        raise
    return may_write_table(connection)


def may_write_table(connection: Connection[Cursor]) -> bool:
    """Whether the account has the rights on the table, by any grant."""
    held: set[str] = set()
    for (line,) in query(connection, "SHOW GRANTS"):
        rights, _, rest = str(line).removeprefix("GRANT ").partition(" ON ")
        if rest.partition(" TO ")[0].replace("`", "").replace("'", "") in ("*.*", f"{SCHEMA}.*", TABLE):
            held |= {right.strip() for right in rights.split(",")}
    return bool({"ALL PRIVILEGES", "ALL"} & held) or held.issuperset(RIGHTS)


def examine_witness(server: Server) -> Iterator[Finding]:
    """Find what the owner of the server has to grant so that incrementals are possible after a restart."""
    try:
        with connect(server, timeout=5, patience=_PATIENCE) as connection:
            if may_write(connection):
                return
            remedy = describe_grant(connection, server)
    except (StrongroomError, pymysql.MySQLError):
        return  # reported elsewhere
    yield Finding(
        level="warning",
        message="the account may not write a token after a backup: if the server was restarted since, the next backup is a full",
        remedy=remedy,
    )
