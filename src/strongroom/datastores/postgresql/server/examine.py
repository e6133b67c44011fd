"""Finds what an adopted server lacks for backups, and the statements that its owner has to run."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg

from strongroom.datastores.postgresql.backup import witness
from strongroom.datastores.postgresql.profile import read
from strongroom.datastores.postgresql.server.account import acting_as_owner, find_account
from strongroom.datastores.postgresql.server.config import get_host, get_port
from strongroom.datastores.postgresql.server.connection import Connection, connect, describe_server, query
from strongroom.datastores.protocol.servers import Finding, Server
from strongroom.errors import StrongroomError

_SUMMARIES = 17
_FOR_WAL = ("pg_create_restore_point(text)", "pg_switch_wal()")


def examine(server: Server) -> Iterator[Finding]:
    """Examine the server, without changing anything."""
    try:
        with connect(server, timeout=5, patience=30) as connection:
            findings = [*_settings(connection), *_rights(connection, server), *_state(connection)]
        if all(finding.level != "error" for finding in findings):
            findings += _profile(server)
    except StrongroomError as error:
        yield Finding(level="error", message=error.message, remedy=error.remedy or "Start the server.")
        return
    except psycopg.Error as error:
        yield Finding(
            level="error", message=f"{describe_server(server)} failed to answer a query: {error}", remedy="See its log."
        )
        return
    findings += _replication(server)
    yield from findings
    if all(finding.level != "error" for finding in findings):
        yield Finding(level="ok", message=f"{describe_server(server)} can be backed up")


def _settings(connection: Connection) -> Iterator[Finding]:
    ((version, level, senders, slots, checksums, summaries),) = query(
        connection,
        "SELECT current_setting('server_version_num')::int / 10000, current_setting('wal_level'),"
        " current_setting('max_wal_senders')::int, current_setting('max_replication_slots')::int,"
        " current_setting('data_checksums'), current_setting('summarize_wal', true)",
    )
    if level == "minimal":
        yield _setting("wal_level", level, "replica")
    if senders < 2:
        yield _setting("max_wal_senders", senders, "10")
    if slots < 2:
        yield _setting("max_replication_slots", slots, "10")
    if version >= _SUMMARIES and summaries != "on":
        yield Finding(
            level="warning",
            message="summarize_wal is off: incrementals hold all WAL since their parent, instead of the blocks that have changed",
            remedy="ALTER SYSTEM SET summarize_wal = on; SELECT pg_reload_conf();",
        )
    if checksums != "on":
        yield Finding(
            level="warning",
            message="data_checksums is off: damaged pages are backed up unnoticed",
            remedy="While the server is stopped: pg_checksums --enable --pgdata=…",
        )
    if (version < _SUMMARIES or summaries != "on") and not query(
        connection, "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'strongroom'"
    ):
        yield Finding(
            level="warning",
            message="no slot keeps the WAL that the next incremental needs: when it is gone, a full is taken instead",
            remedy="ALTER SYSTEM SET max_slot_wal_keep_size = '4GB'; SELECT pg_reload_conf(); "
            "SELECT pg_create_physical_replication_slot('strongroom', true);",
        )


def _setting(name: str, value: object, wanted: str) -> Finding:
    return Finding(
        level="error", message=f"{name} is {value}", remedy=f"ALTER SYSTEM SET {name} = {wanted}; then restart the server."
    )


def _rights(connection: Connection, server: Server) -> Iterator[Finding]:
    user = find_account(server).user
    quoted = '"' + user.replace('"', '""') + '"'
    ((superuser, replicates, reads),) = query(
        connection,
        "SELECT rolsuper, rolreplication, pg_has_role('pg_read_all_settings', 'USAGE')"
        " FROM pg_roles WHERE rolname = current_user",
    )
    if superuser:
        return
    if not replicates:
        yield Finding(level="error", message=f"role {user} may not take backups", remedy=f"ALTER ROLE {quoted} REPLICATION;")
    if not reads:
        yield Finding(
            level="error",
            message=f"role {user} may not ask where the data is",
            remedy=f"GRANT pg_read_all_settings TO {quoted};",
        )
    missing = [name for name in _FOR_WAL if query(connection, "SELECT has_function_privilege(%s, 'EXECUTE')", name) == [(False,)]]
    if missing:
        yield Finding(
            level="warning",
            message=f"role {user} may not take incrementals that are WAL",
            remedy=f"GRANT EXECUTE ON FUNCTION {', '.join(missing)} TO {quoted};",
        )
    yield from witness.examine(connection, server)
    yield Finding(
        level="warning",
        message=f"role {user} is no superuser: databases and users can be looked at, and those of others not be changed",
        remedy="Let it be so, or name an account that is one.",
    )


def _state(connection: Connection) -> Iterator[Finding]:
    ((recovers,),) = query(connection, "SELECT pg_is_in_recovery()")
    if recovers:
        yield Finding(level="error", message="it is a standby, or still recovers", remedy="Adopt the primary.")


def _profile(server: Server) -> Iterator[Finding]:
    """What a backup of this server would not contain, or what a restore would fail at."""
    profile = read.read_profile(server)
    for notice in profile.notices:
        yield Finding(level="error" if notice.effect == "refuse" else "warning", message=notice.message, remedy=notice.remedy)
    for sentence in profile.absent:
        yield Finding(level="warning", message=sentence)


def _replication(server: Server) -> Iterator[Finding]:
    """Try whether ``pg_hba.conf`` allows replication connections, which have lines of their own there."""
    us = find_account(server)
    try:
        with acting_as_owner(server):
            psycopg.connect(
                host=get_host(server),
                port=get_port(server),
                user=us.user,
                password=us.password,
                replication="true",
                connect_timeout=5,
            ).close()
    except psycopg.OperationalError as error:
        place = "local" if get_host(server).startswith("/") else "host"
        whence = "" if place == "local" else "  127.0.0.1/32"
        method = "peer" if us.password is None else "scram-sha-256"
        yield Finding(
            level="error",
            message=f"no connection for replication: {error}".strip(),
            remedy=f"In pg_hba.conf, above the other lines: `{place}  replication  {us.user}{whence}  {method}`; "
            "then SELECT pg_reload_conf();",
        )
