"""The witness of servers that are backed up by InnoDB's pages: a row of a table of ours, after the end of each backup.

InnoDB recovers to a prefix of its log. So a state that shows the row holds all that was logged before it, which is all that the
backup holds. The row is in no binary log. In a cluster it stays on its node: elsewhere it would have another place in the log.
"""

from __future__ import annotations

from collections.abc import Iterator

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.artifact import Witness
from strongroom.datastores.innodb.connection import connect, parts, query, server_pid, variables, where
from strongroom.datastores.protocol.backups import BackupRequest
from strongroom.datastores.protocol.servers import Finding, Server
from strongroom.datastores.toolkit import witness as witness_module
from strongroom.datastores.toolkit.lineage import ensure_lineage
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
"""Seconds for each statement, before the backup goes without a witness."""
_NO_RIGHT = {1044, 1142, 1143, 1227}
_READ_ONLY = {1290, 1836}
"""A replica, for an account that may not write there all the same."""
_MISSING = {1049, 1146}


def leave(server: Server) -> tuple[Witness | None, list[str]]:
    """Write a token, now that the backup has ended. Nothing that goes wrong here makes the backup a bad one: it has no witness
    then, and a warning says why the next backup is a full.
    """
    pid = None
    try:
        lineage, token = ensure_lineage(server.data_dir), witness_module.new_token()
        with connect(server, patience=_PATIENCE) as connection:
            pid = server_pid(connection)
            keep_local(connection)
            write_token(connection, lineage, token)
        witness_module.keep_token(server.data_dir, lineage, token)
    except (StrongroomError, pymysql.MySQLError, OSError) as error:
        evidence = witness_module.describe_process(pid) if parts(error)[0] in _NO_RIGHT | _READ_ONLY else {}
        return (Witness(evidence=evidence), []) if evidence else (None, [describe_failure(server, error)])
    return Witness(token=token), []


def keep_local(connection: Connection[Cursor]) -> None:
    """What this session writes stays out of the binary log, and out of the cluster."""
    ((logs,),) = query(connection, "SELECT @@log_bin")
    if logs:
        query(connection, "SET SESSION sql_log_bin = 0")
    if variables(connection, "VARIABLES", "wsrep_on").get("wsrep_on") == "ON":
        query(connection, "SET SESSION wsrep_on = OFF")


def write_token(connection: Connection[Cursor], lineage: str, token: str) -> None:
    """Put the token into the table, which is made when it is missing, and drop those that no incremental can need."""
    prepare_table(connection)
    query(connection, f"INSERT INTO {TABLE} (lineage, token) VALUES (%s, %s)", lineage, token)  # noqa: S608
    query(connection, f"DELETE FROM {TABLE} WHERE lineage <> %s", lineage)  # noqa: S608
    kept = query(connection, f"SELECT id FROM {TABLE} ORDER BY id DESC LIMIT 1 OFFSET {witness_module.KEPT}")  # noqa: S608
    for (oldest,) in kept:
        query(connection, f"DELETE FROM {TABLE} WHERE id <= {int(oldest)}")  # noqa: S608


def prepare_table(connection: Connection[Cursor]) -> None:
    """Make the table when it is missing. Raises OSError when it is there, but of another engine, whose log proves nothing."""
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
        if parts(error)[0] not in _MISSING | _NO_RIGHT:
            raise
        return False


def require(connection: Connection[Cursor], server: Server, request: BackupRequest) -> None:
    """Raises LineageChanged unless the server proves that its history contains the parent of an incremental."""
    if request.kind != "incremental":
        return
    witness = request.parent_witness
    if witness is None:
        raise witness_module.no_proof(where(server), witness_module.NEVER_WRITTEN)
    if witness.token is None:
        if not witness_module.is_same_process(witness.evidence, server_pid(connection)):
            raise witness_module.no_proof(
                where(server), "the account may write no token into it, and it was restarted since", grant(connection, server)
            )
        return
    require_token(connection, server, witness.token)


def require_token(connection: Connection[Cursor], server: Server, token: str) -> None:
    """Raises LineageChanged unless the token is in the data and in the file."""
    lineage = ensure_lineage(server.data_dir)
    if not holds_token(connection, lineage, token):
        raise witness_module.no_proof(where(server), witness_module.LOST.format(TABLE))
    if not witness_module.has_token(server.data_dir, lineage, token):
        raise witness_module.no_proof(where(server), witness_module.LOST.format(server.data_dir / witness_module.FILE))


def describe_failure(server: Server, error: Exception) -> str:
    """A sentence for people: the backup is good, and the next one is a full."""
    said = error.message if isinstance(error, StrongroomError) else parts(error)[1]
    remedy = ""
    if parts(error)[0] in _NO_RIGHT:
        remedy = " `strongroom check` names the rights that incrementals need."
    return f"The next backup has to be a full: no token could be written into {where(server)} ({said.rstrip('.')}).{remedy}"


# --- what an account may do


def grant(connection: Connection[Cursor], server: Server, *, local: bool = True) -> str:
    """The statements that give our account the right to write tokens; ``local`` ones stay out of the binary log."""
    ((account, logs),) = query(connection, "SELECT CURRENT_USER(), @@log_bin")
    name, _, host = str(account).rpartition("@")
    quoted = "@".join("'" + part.replace("'", "''") + "'" for part in (name, host))
    apart = "BINLOG ADMIN" if server.datastore == "mariadb" else "BINLOG_ADMIN"
    first = f"GRANT {apart} ON *.* TO {quoted}; " if local and logs else ""
    return f"{first}GRANT {', '.join(RIGHTS)} ON {TABLE} TO {quoted};"


def may_write(connection: Connection[Cursor]) -> bool:
    """Whether the account may write tokens. Tries the statements that change nothing; asks for the rights to the table."""
    try:
        keep_local(connection)
    except pymysql.MySQLError as error:
        if parts(error)[0] in _NO_RIGHT:
            return False
        raise
    return may_write_table(connection)


def may_write_table(connection: Connection[Cursor]) -> bool:
    """Whether the account has its rights on the table, by whichever grant."""
    held: set[str] = set()
    for (line,) in query(connection, "SHOW GRANTS"):
        rights, _, rest = str(line).removeprefix("GRANT ").partition(" ON ")
        if rest.partition(" TO ")[0].replace("`", "").replace("'", "") in ("*.*", f"{SCHEMA}.*", TABLE):
            held |= {right.strip() for right in rights.split(",")}
    return bool({"ALL PRIVILEGES", "ALL"} & held) or held.issuperset(RIGHTS)


def examine(server: Server) -> Iterator[Finding]:
    """What the owner of the server has to grant, so that incrementals are possible after a restart."""
    try:
        with connect(server, timeout=5, patience=_PATIENCE) as connection:
            if may_write(connection):
                return
            remedy = grant(connection, server)
    except (StrongroomError, pymysql.MySQLError):
        return  # said elsewhere
    yield Finding(
        level="warning",
        message="the account may write no token after a backup: when the server was restarted since, the next backup is a full",
        remedy=remedy,
    )
