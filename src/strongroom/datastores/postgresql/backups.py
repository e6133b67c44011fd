"""Backups of PostgreSQL: implements ``protocol.backups.Backups``.

Modules that need numpy are imported when a backup begins: the import takes a third of a second, and the service takes no backups.
"""

from __future__ import annotations

from strongroom.artifact import Check, Format, Positions
from strongroom.datastores.postgresql.backup.describe import describe
from strongroom.datastores.postgresql.backup.slot import release
from strongroom.datastores.postgresql.backup.stream_check import StreamCheck
from strongroom.datastores.protocol.backups import BackupRequest, BackupSession
from strongroom.datastores.protocol.servers import Server

__all__ = ["begin", "describe", "release", "stream_check", "stream_format"]


def begin(server: Server, request: BackupRequest) -> BackupSession:
    """See ``Backups.begin``."""
    from strongroom.datastores.postgresql.backup import blocks, full, wal

    if request.kind == "full" or blocks.is_possible(server, request.parent):
        return full.begin(server, request)
    return wal.begin(server, request)


def stream_format(server: Server) -> Format:
    """See ``Backups.stream_format``."""
    return "tar"


def stream_check(positions: Positions) -> Check | None:
    """See ``Backups.stream_check``. A stream of WAL contains no checksums of its files."""
    return None if positions.wal_from else StreamCheck()
