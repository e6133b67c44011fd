"""Facts about a running server and about a data directory."""

from __future__ import annotations

import re
from pathlib import Path

import psycopg

from strongroom.datastores.postgresql.backup import slot
from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.postgresql.files.tree import measure_data, measure_wal
from strongroom.datastores.postgresql.restore import first_start, timelines
from strongroom.datastores.postgresql.server.connection import Connection, connect, describe_server, query
from strongroom.datastores.postgresql.server.versions import extract_number, extract_series
from strongroom.datastores.protocol.servers import Facts, Server, Sizes
from strongroom.datastores.toolkit.mark import is_unfinished
from strongroom.errors import IsStandby, ServerFailed
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

RESTORED = "strongroom_restored"
"""The position that a restored server must reach before it serves. Removed when it has reached it."""
READS_SETTINGS = "As a superuser: GRANT pg_read_all_settings TO the account."


def read_facts(server: Server) -> Facts:
    """Read the facts of a running server.

    Raises ServerFailed while the server does not serve, is in recovery, or has not reached the end of its backup; IsStandby;
    NoConnections; ConfigurationError if it refuses this user.
    """
    try:
        with connect(server, timeout=5, patience=10) as connection:
            ((number, data_dir, recovers),) = query(
                connection,
                "SELECT current_setting('server_version'), current_setting('data_directory'), pg_is_in_recovery()",
            )
            place = Path(data_dir)
            if recovers and (place / "standby.signal").exists():
                raise IsStandby(
                    f"{describe_server(server)} is a standby: it follows another server",
                    remedy="Backups are taken of the primary: adopt that one, or promote this one (SELECT pg_promote()).",
                )
            if recovers:
                raise ServerFailed(
                    f"{describe_server(server)} is still in recovery", remedy="Wait until it has replayed its WAL."
                )
            _require_arrival(connection, server)
            warning = slot.make_warning(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        raise ServerFailed(
            f"{describe_server(server)} does not tell us where its data is: {error}", remedy=READS_SETTINGS
        ) from error
    except psycopg.Error as error:
        raise ServerFailed(f"{describe_server(server)} does not serve: {error}") from error
    return Facts(version_number=extract_number(number), data_dir=place, warning=warning)


def measure(data_dir: Path) -> Sizes:
    """Measure a data directory with its tablespaces."""
    wal = measure_wal(data_dir)
    return Sizes(data_bytes=measure_data(data_dir) + wal, wal_bytes=wal)


def expect_arrival(data_dir: Path, wal_stop: str, timeline: int) -> None:
    """Record the position that a server on this directory has to reach."""
    write_file(data_dir / RESTORED, f"{wal_stop} {timeline}\n", find_owner(data_dir))


def _require_arrival(connection: Connection, server: Server) -> None:
    """Check once after each restore that the server replayed all WAL. PostgreSQL itself refuses WAL that ends too early."""
    text = read_text(server.data_dir / RESTORED)
    if text is None:
        return
    wanted = re.fullmatch(rf"({lsn.PATTERN}) (\d{{1,9}})\n", text)
    if wanted is None:
        raise ServerFailed(f"{server.data_dir / RESTORED} is damaged", remedy="Restore again.")
    wal_stop, wanted_timeline = wanted[1], int(wanted[2])
    ((position, timeline),) = query(
        connection, "SELECT pg_current_wal_lsn()::text, (SELECT timeline_id FROM pg_control_checkpoint())"
    )
    if lsn.parse_lsn(position) < lsn.parse_lsn(wal_stop) or timeline < wanted_timeline:
        raise ServerFailed(
            f"{describe_server(server)} came up at {position} on timeline {timeline}, "
            f"before the end of its backup at {wal_stop} on timeline {wanted_timeline}: rows are missing",
            remedy="Restore again, or restore another backup.",
        )
    timelines.release(server.data_dir)
    first_start.remove_settings(server.data_dir)
    (server.data_dir / RESTORED).unlink()


def check_data(server: Server, data_dir: Path) -> None:
    """Refuse a directory that is not a database, belongs to another version, or comes from an unfinished restore."""
    remedy = "Restore again; what is in this directory cannot be used."
    if is_unfinished(data_dir):
        raise ServerFailed(f"{data_dir} has an unfinished restore", remedy=remedy)
    found = (read_text(data_dir / "PG_VERSION") or "").strip()
    if not found or not (data_dir / "global" / "pg_control").is_file():
        raise ServerFailed(f"{data_dir} holds no PostgreSQL database", remedy="Initialize it, or restore a backup into it.")
    if found != extract_series(server.version.number):
        raise ServerFailed(
            f"{data_dir} is of PostgreSQL {found}, and the server is {server.version.number}",
            remedy=f"Install PostgreSQL {found}.",
        )
