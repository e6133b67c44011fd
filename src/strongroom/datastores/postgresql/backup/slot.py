"""Keeps the WAL that the next incremental needs: a physical replication slot, bounded by ``max_slot_wal_keep_size``."""

from __future__ import annotations

from contextlib import suppress

import psycopg

from strongroom.artifact import Positions
from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.postgresql.server.config import wal_limit_mb
from strongroom.datastores.postgresql.server.connection import Connection, connect, describe_server, query
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ServerFailed

NAME = "strongroom"
_OLDER = 4
"""This fraction (1/4) of the limit is kept for incrementals whose parent is not the newest backup."""


def keep(connection: Connection, server: Server) -> None:
    """Keep all WAL until ``release``. A slot that was invalidated is created again.

    An adopted server never gets a slot: its owner decides what may fill the disk.
    """
    rows = query(
        connection, "SELECT restart_lsn IS NULL OR wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = %s", NAME
    )
    if rows == [(True,)]:
        drop(connection)
    if rows == [(True,)] or (not rows and not server.is_adopted):
        with suppress(psycopg.errors.ConfigurationLimitExceeded):  # all slots are in use; the profile reports it
            query(connection, "SELECT pg_create_physical_replication_slot(%s, true)", NAME)


def drop(connection: Connection) -> None:
    """Stop keeping WAL."""
    query(connection, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", NAME)


def make_warning(connection: Connection) -> str:
    """A warning if the kept WAL approaches or exceeded its limit; empty otherwise."""
    rows = query(
        connection,
        "SELECT coalesce(wal_status, 'lost') = 'lost', safe_wal_size / 1048576,"
        " (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size')"
        " FROM pg_replication_slots WHERE slot_name = %s",
        NAME,
    )
    for lost, left, limit in rows:
        if lost:
            return f"more than {limit} MB of WAL were written since the last backup and then dropped: the next backup is a full"
        if left is not None and left <= limit // _OLDER:  # whole WAL files are counted, so the limit may be reached exactly
            return f"{max(left, 0)} of {limit} MB are left for WAL since the last backup: without a new one the next is a full"
    return ""


def release(server: Server, positions: Positions) -> None:
    """Release WAL before the end of this backup, except some for older parents. Raises ServerFailed."""
    if positions.wal_stop is None:
        return
    try:
        with connect(server) as connection:
            rows = query(
                connection,
                "SELECT restart_lsn::text, pg_current_wal_lsn()::text FROM pg_replication_slots"
                " WHERE slot_name = %s AND wal_status <> 'lost'",
                NAME,
            )
            older = (wal_limit_mb(server) << 20) // _OLDER if not server.is_adopted else 0
            for kept, now in rows:
                until = min(lsn.parse_lsn(positions.wal_stop), lsn.parse_lsn(now) - older)
                if until > lsn.parse_lsn(kept):
                    query(connection, "SELECT pg_replication_slot_advance(%s, %s::pg_lsn)", NAME, lsn.format_lsn(until))
    except psycopg.Error as error:
        raise ServerFailed(f"the WAL that {describe_server(server)} keeps could not be released: {error}") from error
