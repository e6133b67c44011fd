"""A datastore whose log has numbers as positions, and in which a segment is one transaction, committed at its end in seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from strongroom.archive import Contents, LogSegment, Stretch, Target
from strongroom.artifact import Positions
from strongroom.datastores.protocol.datastore import Datastore
from strongroom.datastores.protocol.logs import Cut, Start, Transaction
from strongroom.datastores.registry import get
from strongroom.errors import NotFound


class NumberLogs:
    """The part ``logs``, as far as the control plane uses it. A backup ends at ``to_lsn``, or a little later: by ``last_lsn``."""

    def precedes(self, first: str, second: str) -> bool:
        return int(first) <= int(second)

    def find_start(self, backup: Positions, log: Sequence[Contents]) -> Start | None:
        for contents in reversed(log):
            end = max((int(each.record.end) for each in contents.segments.values()), default=int(contents.series.record.begin))
            if backup.to_lsn is not None and int(contents.series.record.begin) <= backup.to_lsn <= end:
                complete = "" if backup.last_lsn is None else str(backup.last_lsn)
                return Start(contents.series.record.location.number, str(backup.to_lsn), complete)
        return None

    def find_cut(self, target: Target, stretch: Stretch) -> Cut:
        found = list(_list_ends(stretch))
        if target.kind == "latest":
            included = len(found)
        elif target.kind == "time":
            included = len([None for _, segment in found if int(segment.end) * 10**6 <= target.microseconds])
        else:
            included = next((n + 1 for n, (_, segment) in enumerate(found) if segment.end == target.value), 0)
            if not included:
                raise NotFound(f"the log contains no {target}")
        last = found[included - 1] if included else None
        following = found[included] if included < len(found) else None
        series, position = (last[0], last[1].end) if last else (stretch.pieces[0].series, stretch.pieces[0].begin)
        return Cut(series, position, _describe(last), _describe(following))


def _list_ends(stretch: Stretch) -> Iterator[tuple[int, LogSegment]]:
    for reader, segment in stretch.segments():
        assert reader.index(segment) is not None
        yield segment.series.number, segment


def _describe(found: tuple[int, LogSegment] | None) -> Transaction | None:
    if found is None:
        return None
    segment = found[1]
    return Transaction(segment.begin, segment.end, int(segment.end) * 10**6, f"t{segment.end}", ("shop.items",))


def get_datastore(name: str) -> Datastore:
    """The datastore with such a log."""
    logs: Any = NumberLogs()
    return replace(get(name), logs=logs)
