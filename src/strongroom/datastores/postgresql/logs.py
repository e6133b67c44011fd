"""The log archive of a server: the part ``logs`` of the datastore."""

from __future__ import annotations

from strongroom.datastores.postgresql.archive.access import connect_replication
from strongroom.datastores.postgresql.archive.receiver import Target, WalReceiver
from strongroom.datastores.protocol.logs import LogRequest
from strongroom.datastores.protocol.servers import Server
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
