"""Finds the exact position of a target in the log, from the records of segments and the WAL of the few segments that matter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from strongroom.archive import LogSegment, Stretch, Target
from strongroom.datastores.postgresql.archive.records import RestorePoint, TransactionEnd
from strongroom.datastores.postgresql.archive.scanner import find_record_end
from strongroom.datastores.postgresql.files.lsn import format_lsn, parse_lsn
from strongroom.datastores.postgresql.replay.pieces import WalPiece, open_pieces
from strongroom.datastores.protocol.logs import Cut, Transaction
from strongroom.errors import ArtifactError, InvalidRequest, NotFound

OWN_POINTS = "strongroom "
"""How the restore points begin that incrementals of WAL make."""
_MOST_NAMES = 5
_LOOK_BACK = 100
"""Segments before the stretch that are looked at for the last transaction before it."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def find_cut(target: Target, stretch: Stretch) -> Cut:
    """See ``Logs``."""
    if target.kind in ("gtid", "before-gtid"):
        raise InvalidRequest(
            "PostgreSQL has no GTIDs", remedy="Name a time, an LSN (lsn:0/5A28), a restore point (point:NAME) or latest."
        )
    pieces = open_pieces(stretch)
    if target.kind == "lsn":
        return _find_lsn(pieces, target.value)
    if target.kind == "point":
        return _find_point(pieces, target.value)
    if target.kind == "time":
        return _find_time(pieces, target.microseconds)
    return _cut_at(pieces, pieces[-1].high)


def _find_lsn(pieces: Sequence[WalPiece], text: str) -> Cut:
    try:
        position = parse_lsn(text)
    except ValueError as error:
        raise InvalidRequest(str(error), remedy="An LSN is two hexadecimal numbers, as in lsn:0/5A28.") from error
    first, last = pieces[0].low, pieces[-1].high
    if not first <= position <= last:
        nearest = first if position < first else last
        raise NotFound(
            f"LSN {text} is not in the log, which is stored from {format_lsn(first)} to {format_lsn(last)}",
            remedy=f"The nearest LSN is lsn:{format_lsn(nearest)}.",
        )
    return _cut_at(pieces, position)


def _cut_at(pieces: Sequence[WalPiece], limit: int) -> Cut:
    """After the last record that ends at ``limit`` or before it."""
    for piece in reversed(pieces):
        number = piece.find_segment(limit) if piece.low < limit else piece.stop
        if piece.low < limit and piece.first < piece.stop:
            number = min(number, piece.stop - 1)
            while number >= piece.first:
                _, end = piece.scan(number, min(limit, piece.high))
                if end is not None:
                    if max(end, piece.low) > piece.low or piece is pieces[0]:
                        return _describe(pieces, piece, min(max(end, piece.low), limit))
                    break
                number -= 1  # it is within one record
    return _describe(pieces, pieces[0], pieces[0].low)


def _find_time(pieces: Sequence[WalPiece], time: int) -> Cut:
    """Before the first transaction that ended later, as PostgreSQL itself does: times are not in the order of the log."""
    covered: int | None = None
    for piece in pieces:
        for segment, is_complete in piece.indexed_segments():
            if not is_complete or (segment.last_time is not None and segment.last_time > time):
                for record in piece.scan(segment.number)[0]:
                    if isinstance(record, TransactionEnd) and piece.low < record.end and record.time > time:
                        _require_later(pieces[0], time)
                        size = piece.details.file_size
                        return _describe(pieces, piece, max(find_record_end(record.start, size), piece.low))
            times = [each for each in (covered, segment.last_time, segment.covered_until) if each is not None]
            covered = max(times, default=None)
    until = pieces[-1].covered()
    if until is not None and until.number == pieces[-1].stop - 1:
        covered = max(until.time, covered or until.time)
    if covered is None or time > covered:
        nearest = f"The nearest time is {_format_time(covered)}." if covered is not None else "Restore to latest."
        raise NotFound(f"the log is stored until {_format_time(covered)}, before {_format_time(time)}", remedy=nearest)
    return _cut_at(pieces, pieces[-1].high)


def _require_later(piece: WalPiece, time: int) -> None:
    """Raise NotFound if a transaction before the stretch ended after ``time``: the backup contains it."""
    latest = _find_time_before(piece)
    if latest is not None and latest > time:
        raise NotFound(
            f"the backup from which the log would be applied contains a transaction of {_format_time(latest)}, "
            f"after {_format_time(time)}",
            remedy=f"The nearest time is {_format_time(latest)}.",
        )


def _find_time_before(piece: WalPiece) -> int | None:
    """The highest time of the last transactions before the piece; None if none is known."""
    number = min(piece.find_segment(piece.low + 1), piece.stop - 1)
    if number < piece.first:
        return None
    times = [each.time for each in piece.scan(number, piece.low)[0] if isinstance(each, TransactionEnd)]
    with suppress(ArtifactError):  # a gap
        for before in range(number - 1, max(-1, number - _LOOK_BACK), -1):
            if times:
                break
            times = [time for time in (piece.segment(before).last_time,) if time is not None]
    return max(times, default=None)


def _find_point(pieces: Sequence[WalPiece], name: str) -> Cut:
    found: list[tuple[WalPiece, int, int | None]] = []
    others: list[str] = []
    for piece in pieces:
        for segment, is_complete in piece.indexed_segments():
            for text, end, time in _list_points(piece, segment, is_complete):
                if not piece.low < end <= piece.high:
                    continue
                if text == name:
                    found.append((piece, end, time))
                elif not text.startswith(OWN_POINTS):
                    others = [*others, text][-_MOST_NAMES:]
    if not found:
        create = "There is none. Create one before the next change: `strongroom restore-point create INSTANCE before-release`."
        names = f"The last ones are: {', '.join(others)}." if others else create
        raise NotFound(f"the log has no restore point {name!r} after the oldest backup", remedy=names)
    if len(found) > 1:
        places = ", ".join(f"lsn:{format_lsn(end)} ({_format_time(time)})" for _, end, time in found[-_MOST_NAMES:])
        raise InvalidRequest(f"the log has {len(found)} restore points {name!r}", remedy=f"Name one by its LSN: {places}.")
    piece, end, _ = found[0]
    return _describe(pieces, piece, end)


def _list_points(piece: WalPiece, segment: LogSegment, is_complete: bool) -> Iterator[tuple[str, int, int | None]]:
    """The restore points in a segment: name, end, time."""
    index = piece.reader.index(segment)
    if index.omitted or not is_complete:
        for record in piece.scan(segment.number)[0]:
            if isinstance(record, RestorePoint):
                yield record.name, record.end, record.time
        return
    for event in index.events:
        if event.kind == "restore-point":
            yield event.text, parse_lsn(event.end), event.time


# --- what is before and after the cut


def _describe(pieces: Sequence[WalPiece], piece: WalPiece, position: int) -> Cut:
    number = pieces.index(piece)
    if position == piece.low and number:  # the end of the piece before it
        return _describe(pieces, pieces[number - 1], position)
    last = next((found for found in _list_before(pieces[: number + 1], position)), None)
    following = next((found for found in _list_after(pieces[number:], position)), None)
    return Cut(piece.number, format_lsn(position), last, following)


def _list_before(pieces: Sequence[WalPiece], position: int) -> Iterator[Transaction]:
    for piece in reversed(pieces):
        for number in range(min(piece.find_segment(position), piece.stop - 1), piece.first - 1, -1):
            if parse_lsn(piece.segment(number).end) <= piece.low:
                break
            for record in reversed(_list_commits(piece, number)):
                if record.end <= position:
                    yield _make_transaction(piece, record)


def _list_after(pieces: Sequence[WalPiece], position: int) -> Iterator[Transaction]:
    for piece in pieces:
        for number in range(piece.find_segment(position), piece.stop):
            for record in _list_commits(piece, number):
                if record.end > position:
                    yield _make_transaction(piece, record)


def _list_commits(piece: WalPiece, number: int) -> list[TransactionEnd]:
    """The commits that end in a segment of the piece."""
    if not piece.segment(number).transactions and piece.is_complete(number):
        return []
    records = piece.scan(number)[0]
    return [each for each in records if isinstance(each, TransactionEnd) and each.commits and piece.low < each.end <= piece.high]


def _make_transaction(piece: WalPiece, record: TransactionEnd) -> Transaction:
    begin = find_record_end(record.start, piece.details.file_size)
    return Transaction(
        begin=format_lsn(begin), end=format_lsn(record.end), time=record.time, name=str(record.transaction or "prepared")
    )


def _format_time(time: int | None) -> str:
    return "an unknown time" if time is None else (_EPOCH + timedelta(microseconds=time)).isoformat()
