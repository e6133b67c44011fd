"""Backups of MySQL: implements ``protocol.backups.Backups``."""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.artifact import Check, Format, Positions
from strongroom.datastores.innodb import checkpoints
from strongroom.datastores.mysql.backup import full, xtrabackup
from strongroom.datastores.protocol.backups import BackupRequest, BackupSession, StreamFacts
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import LineageChanged


def begin(server: Server, request: BackupRequest) -> BackupSession:
    """See ``Backups.begin``. Incrementals continue in the way in which the chain began."""
    by_pages = xtrabackup.is_installed(server.version)
    if request.parent is not None and (request.parent.to_lsn is not None) != by_pages:
        before, now = ("without", "has one now") if by_pages else ("by", "has none for this server")
        raise LineageChanged(
            f"the parent backup was taken {before} XtraBackup, and this host {now}",
            remedy="Take a full backup; later incrementals are based on it.",
        )
    if by_pages:
        return xtrabackup.begin(server, request)
    return full.begin(server, request)


def stream_format(server: Server) -> Format:
    """See ``Backups.stream_format``."""
    return "mbstream" if xtrabackup.is_installed(server.version) else "tar"


def release(server: Server, positions: Positions) -> None:
    """Nothing is kept for backups."""


def stream_check(positions: Positions) -> Check | None:
    """None: the stream has no checksums of its files."""
    return None


def describe(files: Mapping[str, bytes], sizes: Mapping[str, int], said: Positions) -> StreamFacts:
    """See ``Backups.describe``. Only backups of XtraBackup come from other tools."""
    return checkpoints.describe(files, "MySQL")
