"""The log archive of a server: the part ``logs`` of the datastore."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from strongroom.archive import Contents, Stretch
from strongroom.archive import Target as Moment
from strongroom.artifact import Positions
from strongroom.datastores.postgresql.archive.access import connect_replication
from strongroom.datastores.postgresql.archive.receiver import Target, WalReceiver
from strongroom.datastores.postgresql.files.lsn import parse_lsn
from strongroom.datastores.protocol.logs import Cut, LogRequest, Replay, Replayed, Start
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.errors import Unsupported

SLOT = "strongroom_log"
_OLDEST = 15


def open_archiver(server: Server, request: LogRequest) -> WalReceiver:
    """See ``Logs``."""
    if int(server.version.series) < _OLDEST:
        raise Unsupported(
            f"the log of PostgreSQL {server.version.series} cannot be archived", remedy=f"Upgrade to {_OLDEST} or later."
        )
    target = Target(
        connect=lambda: connect_replication(server),
        slot=SLOT,
        store=request.store,
        log=request.log,
        settings=request.settings,
        recipients=request.recipients,
        server_version=server.version.number,
        lineage=request.lineage,
        max_age=request.max_age,
    )
    return WalReceiver(target)


def release(server: Server) -> None:
    """See ``Logs``."""
    if int(server.version.series) < _OLDEST:
        return
    with contextlib.closing(connect_replication(server)) as replication:
        replication.drop_slot(SLOT)


def precedes(first: str, second: str) -> bool:
    """See ``Logs``."""
    return parse_lsn(first) <= parse_lsn(second)


def find_start(backup: Positions, log: Sequence[Contents]) -> Start | None:
    """See ``Logs``."""
    raise Unsupported("a restore to a moment is not available for PostgreSQL yet")


def find_cut(target: Moment, stretch: Stretch) -> Cut:
    """See ``Logs``."""
    raise Unsupported("a restore to a moment is not available for PostgreSQL yet")


def replay(version: Version, data_dir: Path, work_dir: Path, replay: Replay, server: Server | None = None) -> Replayed:
    """See ``Logs``."""
    raise Unsupported("a restore to a moment is not available for PostgreSQL yet")
