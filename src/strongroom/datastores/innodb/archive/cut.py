"""The exact position of a target in a binary log.

Times are those that the archive recorded: of what it saw live, its own clock in microseconds; of what it read later, when the
server says that it was committed, which is exact to a second in MariaDB, to a microsecond in MySQL. They never go back.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice

from strongroom.archive import Stretch, Target
from strongroom.datastores.innodb.archive.contents import name_table
from strongroom.datastores.innodb.archive.segments import Segments
from strongroom.datastores.innodb.binlog.groups import Dialect, Group
from strongroom.datastores.protocol.logs import Cut, Transaction
from strongroom.errors import InvalidRequest, LogCorrupt, NotFound

_UNKNOWN = {
    "lsn": "a binary log has no LSNs",
    "point": "a binary log has no restore points",
}
_REMEDY = "Name a time, a GTID, or latest."


def find_cut(target: Target, stretch: Stretch, dialect: Dialect) -> Cut:
    """See ``Logs.find_cut``."""
    if target.kind in _UNKNOWN:
        raise InvalidRequest(f"{target} cannot be found: {_UNKNOWN[target.kind]}", remedy=_REMEDY)
    pieces = [Segments(stretch, piece, dialect) for piece in stretch.pieces if piece.first < piece.stop]
    if not pieces:
        raise NotFound("the log contains nothing yet", remedy="Restore the backup without a log.")
    if target.kind == "latest":
        return _cut_at_end(pieces[-1])
    if target.kind == "time":
        return _cut_at_time(pieces, target.microseconds)
    try:
        gtid = dialect.parse_gtid(target.value)
    except LogCorrupt as error:
        raise InvalidRequest(error.message, remedy=_REMEDY) from None
    return _cut_at_gtid(pieces, dialect, gtid, is_before=target.kind == "before-gtid")


def _cut_at_end(segments: Segments) -> Cut:
    """Not within a transaction that has not ended, of which a part may be stored."""
    return Cut(segments.series, _find_end(segments), _find_last(segments, segments.numbers.stop), None)


def _find_end(segments: Segments) -> str:
    return str(segments.details(segments.numbers[-1]).boundary)


def _cut_at_time(pieces: Sequence[Segments], time: int) -> Cut:
    _require_begin(pieces[0], time)
    for segments in pieces:
        number = _bisect(segments, lambda number, segments=segments: segments.details(number).time > time)  # type: ignore[misc]
        if number is not None:
            return _cut_in(segments, number, bisect_right(segments.times(number), time))
    return _cut_at_end(pieces[-1])


def _require_begin(segments: Segments, time: int) -> None:
    """Raises NotFound if something may have been committed between the time and the beginning of the log."""
    begin = segments.begin_time
    if time < begin:
        named = datetime.fromtimestamp(begin / 1e6, UTC).isoformat(timespec="milliseconds")
        raise NotFound(f"the log begins at {named}, after the time", remedy="Name a later time.")


def _cut_at_gtid(pieces: Sequence[Segments], dialect: Dialect, gtid: str, *, is_before: bool) -> Cut:
    for segments in pieces:
        for number in _find_gtid(segments, dialect, gtid):
            for at, group in enumerate(segments.groups(number)):
                if group.start.gtid == gtid:
                    return _cut_in(segments, number, at if is_before else at + 1)
    raise NotFound(f"the log does not contain the transaction {gtid}", remedy="`strongroom window` shows what it contains.")


def _find_gtid(segments: Segments, dialect: Dialect, gtid: str) -> Sequence[int]:
    """The segments that may contain it: one, unless the servers' GTIDs are too many to be in the records."""
    if not segments.details(segments.numbers[-1]).gtids:
        return segments.numbers
    number = _bisect(segments, lambda number: gtid in dialect.open_state(segments.details(number).gtids))
    return () if number is None else (number,)


def _bisect(segments: Segments, is_reached: Callable[[int], bool]) -> int | None:
    """The first segment of which this is true; it is true of all after it."""
    at = bisect_left(segments.numbers, True, key=is_reached)
    return segments.numbers[at] if at < len(segments.numbers) else None


def _cut_in(segments: Segments, number: int, count: int) -> Cut:
    """After so many transactions of the segment: before the next one, because a backup may end after what lies between them."""
    around = list(islice(_describe(segments, number), max(0, count - 1), count + 1))
    last = around[0] if count else _find_last(segments, number)
    rest = around[1:] if count else around
    following = rest[0] if rest else _find_next(segments, number + 1)
    return Cut(segments.series, following.begin if following else _find_end(segments), last, following)


def _find_last(segments: Segments, stop: int) -> Transaction | None:
    """The last transaction that ends before segment ``stop``."""
    for number in range(stop - 1, segments.numbers.start - 1, -1):
        if segments.record(number).transactions:
            return deque(_describe(segments, number), maxlen=1).pop()
    return None


def _find_next(segments: Segments, start: int) -> Transaction | None:
    """The first transaction that ends in segment ``start`` or after it."""
    for number in range(start, segments.numbers.stop):
        if segments.record(number).transactions:
            return next(_describe(segments, number), None)
    return None


def _describe(segments: Segments, number: int) -> Iterator[Transaction]:
    for group, time in zip(segments.groups(number), segments.times(number), strict=False):
        yield Transaction(str(group.first), str(group.end), time, group.start.gtid or str(group.end), _name_tables(group))


def _name_tables(group: Group) -> Sequence[str]:
    named = [name for statement in group.statements for name in statement.described.names]
    return tuple(dict.fromkeys(name_table(*name) for name in (*group.tables, *named)))
