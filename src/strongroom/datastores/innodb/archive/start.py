"""Where the log continues a backup."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from strongroom.archive import Contents
from strongroom.artifact import Positions
from strongroom.datastores.innodb.archive.details import SegmentDetails
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.protocol.logs import Start
from strongroom.errors import ArtifactCorrupt


def find_start(backup: Positions, log: Sequence[Contents]) -> Start | None:
    """See ``Logs.find_start``: the newest series that contains the position of the backup.

    Names and offsets alone prove nothing: a server that was reset or restored uses them again. The series must be of the same
    server, and the file must have been begun at the same time. Of a backup that does not say when, exactly one series may
    contain the position.

    MySQL without XtraBackup: the data may contain more than the log up to there. The server skips what it has, by GTID; a target
    must be after all that the data may contain.
    """
    if not backup.binlog_file or backup.binlog_position is None:
        return None
    position = Position(backup.binlog_file, backup.binlog_position)
    found = [
        contents.series.record.location.number
        for contents in log
        if backup.server_uuid in (None, contents.series.record.identity) and _contains(contents, position, backup.binlog_created)
    ]
    if not found or (backup.binlog_created is None and len(found) > 1):
        return None
    return Start(max(found), str(position), backup.binlog_upper or "")


def _contains(contents: Contents, position: Position, created: int | None) -> bool:
    numbers = sorted(contents.segments)
    try:
        at = bisect_left(
            numbers, True, key=lambda number: position.precedes(Position.parse(contents.segments[number].record.end))
        )
        if at == len(numbers):
            return False
        segment = contents.segments[numbers[at]].record
        details = SegmentDetails.of(segment)
        end = Position.parse(segment.end)
    except (ValueError, ArtifactCorrupt):
        return False
    is_there = details.file == end.file == position.file and details.begin <= position.offset <= end.offset
    return is_there and created in (None, details.created)
