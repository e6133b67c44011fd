"""Where an archive continues: in the last series of the store, or in a new one after a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.archive import Head
from strongroom.datastores.innodb.archive.details import SegmentDetails
from strongroom.datastores.innodb.binlog.files import LogFile
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.innodb.binlog.tail import require_same_log
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ArtifactCorrupt, LineageChanged, LogCorrupt, ServerFailed, WalGone


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose log it is."""

    id: str
    """MySQL: the server's UUID. MariaDB has none: the id of the data directory as a UUID."""
    lineage: str
    """Random id of the data directory; empty if it is not known."""
    version: str


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a series with this file."""

    began: str
    reason: str
    file: str


def plan_continuation(
    server: Server, head: Head | None, identity: Identity, files: Sequence[LogFile], starts: frozenset[int], server_id: int
) -> Begin | None:
    """How a new series begins; None to append to the one that ends at ``head``, after the proof that it is the server's log.

    Raises ArtifactCorrupt, and what connecting and reading raise.
    """
    if not files:
        raise ServerFailed("the server lists no files of its binary log", remedy="See its error log.")
    oldest = files[0].name
    if head is None:
        return Begin("first", "the log archive was started", oldest)
    series = head.series
    if series.lineage and identity.lineage and series.lineage != identity.lineage:
        return Begin("restore", "the data directory of the server was replaced", oldest)
    if series.identity and identity.id and series.identity != identity.id:
        return Begin("identity", f"the server is another one: its UUID is {identity.id}, not {series.identity}", oldest)
    if head.segment is None:
        first = _parse(head).file
        if first not in (file.name for file in files):
            return Begin("lost", f"the server no longer has {first}, with which the log archive was to begin", oldest)
        return None
    try:
        require_same_log(server, SegmentDetails.of(head.segment).tail, starts=starts, server_id=server_id)
    except WalGone as error:
        return Begin("lost", error.message, oldest)
    except LineageChanged as error:
        return Begin("restore", error.message, oldest)
    return None


def skip_damage(error: LogCorrupt, damaged: str, files: Sequence[LogFile]) -> Begin | None:
    """How a series begins after a file that cannot be read; None while the server has no later file."""
    names = [file.name for file in files]
    later = names[names.index(damaged) + 1 :] if damaged in names else names
    return Begin("lost", error.message, later[0]) if later else None


def _parse(head: Head) -> Position:
    try:
        return Position.parse(head.position)
    except ValueError as error:
        raise ArtifactCorrupt(f"series {head.series.location.number} does not end in a binary log") from error
