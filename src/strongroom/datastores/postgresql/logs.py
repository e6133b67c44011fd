"""The log archive of a server, and its replay: implements ``protocol.logs.Logs``."""

from __future__ import annotations

import contextlib

from strongroom.datastores.postgresql.archive.access import connect_replication
from strongroom.datastores.postgresql.archive.receiver import Target, WalReceiver
from strongroom.datastores.postgresql.files.lsn import parse_lsn
from strongroom.datastores.postgresql.replay.cut import OWN_POINTS, find_cut
from strongroom.datastores.postgresql.replay.forward import replay
from strongroom.datastores.postgresql.replay.pieces import find_start
from strongroom.datastores.postgresql.server.connection import connect, query
from strongroom.datastores.protocol.logs import LogRequest
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.toolkit.lineage import ensure_lineage
from strongroom.errors import InvalidRequest, Unsupported

__all__ = ["SLOT", "create_point", "find_cut", "find_start", "open_archiver", "precedes", "release", "replay"]

SLOT = "strongroom_log"
_OLDEST = 15
_LONGEST_NAME = 63
"""Bytes that PostgreSQL allows."""


def open_archiver(server: Server, request: LogRequest) -> WalReceiver:
    """See ``Logs``."""
    if int(server.version.series) < _OLDEST:
        raise Unsupported(
            f"the log of PostgreSQL {server.version.series} cannot be archived", remedy=f"Upgrade to {_OLDEST} or later."
        )

    def find_lineage() -> str:
        try:
            return ensure_lineage(server.data_dir)
        except OSError:  # the data directory is on another host
            return request.lineage

    target = Target(
        connect=lambda: connect_replication(server),
        slot=SLOT,
        store=request.store,
        log=request.log,
        settings=request.settings,
        recipients=request.recipients,
        server_version=server.version.number,
        find_lineage=find_lineage,
        max_age=request.max_age,
    )
    return WalReceiver(target)


def release(server: Server) -> None:
    """See ``Logs``."""
    if int(server.version.series) < _OLDEST:
        return
    with contextlib.closing(connect_replication(server)) as replication:
        replication.drop_slot(SLOT)


def create_point(server: Server, name: str) -> str:
    """See ``Logs``."""
    if len(name.encode()) > _LONGEST_NAME or name.startswith(OWN_POINTS):
        raise InvalidRequest(
            f"{name!r} cannot be the name of a restore point",
            remedy=f"Use at most {_LONGEST_NAME} bytes, and do not begin with {OWN_POINTS!r}.",
        )
    with connect(server) as connection:
        ((position,),) = query(connection, "SELECT pg_create_restore_point(%s)::text", name)
    return str(position)


def precedes(first: str, second: str) -> bool:
    """See ``Logs``."""
    return parse_lsn(first) <= parse_lsn(second)
