"""The pieces of a stretch as PostgreSQL sees them: each is one timeline, and the next one continues it."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress

from strongroom.archive import (
    Contents,
    Covered,
    LogSegment,
    Series,
    Stretch,
    list_series,
    load_covered,
    load_segment,
    load_series,
)
from strongroom.archive.window import Piece
from strongroom.artifact import Positions
from strongroom.datastores.postgresql.archive.continuation import SeriesDetails
from strongroom.datastores.postgresql.archive.records import RecordDamaged, RestorePoint, TransactionEnd
from strongroom.datastores.postgresql.archive.scanner import WalScanner
from strongroom.datastores.postgresql.files.lsn import format_lsn, parse_lsn
from strongroom.datastores.postgresql.files.wal import History, Unfit
from strongroom.datastores.protocol.logs import Start
from strongroom.errors import ArtifactCorrupt, ArtifactError

REMEDY = "The log archive is damaged; restore to a moment before, or from a backup after it."
_PAGE = 8192
_KEPT = 4
"""Segments whose bytes are kept for the next scan."""
Records = Sequence[TransactionEnd | RestorePoint]


class WalPiece:
    """A piece of a stretch. ``low`` is where it begins to count: what is before is in the piece before it, or in the backup."""

    def __init__(self, stretch: Stretch, piece: Piece, low: int) -> None:
        """Raises ArtifactMissing, ArtifactCorrupt, StorageError."""
        self.number, self.first, self.stop = piece.series, piece.first, piece.stop
        self._lowest = piece.first
        self.low, self.high = low, parse_lsn(piece.end)
        self.reader = stretch.open(piece.series)
        self._stretch = stretch
        self._known = stretch.known.get(piece.series)
        self._loaded: dict[int, LogSegment] = {}
        self._raw: OrderedDict[int, bytes] = OrderedDict()
        self.details = SeriesDetails.of(_load_series(stretch, piece.series))
        self.timeline = self.details.timeline
        try:
            self.history = History.parse(self.timeline, self.details.history)
        except Unfit as error:
            raise ArtifactCorrupt(f"series {piece.series} of the log: {error}", remedy=REMEDY) from error

    def segments(self) -> Iterator[LogSegment]:
        """Every segment in order, verified to follow the one before it. Raises ArtifactMissing, ArtifactCorrupt, StorageError."""
        if self._known is None:
            yield from self.reader.segments(self.first, self.stop)
        else:
            for number in range(self.first, self.stop):
                yield self._known.segments[number].record

    def indexed_segments(self) -> Iterator[tuple[LogSegment, bool]]:
        """Every segment in order, and whether its record knows all that ends in it.

        An archiver that begins again in the middle of a record does not see what that record is.
        """
        writer = ""
        for segment in self.segments():
            yield segment, segment.number == 0 or segment.writer == writer
            writer = segment.writer

    def is_complete(self, number: int) -> bool:
        """The same for one segment. It may be the first that is left."""
        try:
            return number == 0 or self.segment(number - 1).writer == self.segment(number).writer
        except ArtifactError:
            return False

    def segment(self, number: int) -> LogSegment:
        """The record of one segment, which may be before the piece. Raises ArtifactMissing, ArtifactCorrupt, StorageError."""
        if self._known is not None and number in self._known.segments:
            return self._known.segments[number].record
        if number not in self._loaded:
            self._loaded[number] = load_segment(self._stretch.store, self._stretch.log.series(self.number), number).record
        return self._loaded[number]

    def find_segment(self, position: int) -> int:
        """The number of the segment with the bytes before ``position``; ``stop`` if the piece ends before it."""
        return self._find(position, self.first)

    def _find(self, position: int, first: int) -> int:
        return bisect_left(range(self.stop), position, first, key=lambda number: parse_lsn(self.segment(number).end))

    def covered(self) -> Covered | None:
        """Until when the series was complete at its end."""
        if self._known is not None:
            return self._known.covered
        return load_covered(self._stretch.store, self._stretch.log.series(self.number))

    def scan(self, number: int, limit: int | None = None) -> tuple[Records, int | None]:
        """The records that end in a segment, up to ``limit``; and where the last complete one ends, if that can be known.

        Raises ArtifactMissing, ArtifactCorrupt, CannotDecrypt, StorageError.
        """
        segment = self.segment(number)
        begin, stop = parse_lsn(segment.begin), min(parse_lsn(segment.end), self.high if limit is None else limit)
        distance = 1
        while True:
            wanted = max(0, begin - distance) // _PAGE * _PAGE
            start = max(wanted, self._extend(wanted))
            scanner = WalScanner(start, self.details.file_size, self.details.system, self.history)
            try:
                for data in self._read(start, begin):
                    for _ in scanner.feed(data):
                        pass
                if scanner.is_lost and start == wanted:  # within a record, which began before
                    distance = max(_PAGE, distance * 4)
                    continue
                found = [record for data in self._read(max(start, begin), stop) for record in scanner.feed(data)]
            except (Unfit, RecordDamaged) as error:
                raise ArtifactCorrupt(f"log segment {number} contains what is not WAL: {error}", remedy=REMEDY) from error
            return found, None if scanner.is_lost else scanner.end

    def _extend(self, start: int) -> int:
        """Make the WAL from ``start`` on readable, as far as it is stored without a gap; returns the first page that is."""
        while (begin := parse_lsn(self.segment(self._lowest).begin)) > start and self._lowest:
            try:
                before = self.segment(self._lowest - 1)
            except ArtifactError:
                break
            if parse_lsn(before.end) != begin:
                break
            self._lowest -= 1
        return -(-begin // _PAGE) * _PAGE

    def _read(self, start: int, stop: int) -> Iterator[memoryview]:
        """The bytes from ``start`` to before ``stop``."""
        if start >= stop:
            return
        for number in range(self._find(start + 1, self._lowest), self.stop):
            begin = parse_lsn(self.segment(number).begin)
            if begin >= stop:
                return
            yield memoryview(self._get(number))[max(0, start - begin) : stop - begin]

    def _get(self, number: int) -> bytes:
        if number not in self._raw:
            self._raw[number] = read_segment(self, self.segment(number))
            if len(self._raw) > _KEPT:
                self._raw.popitem(last=False)
        return self._raw[number]


def read_segment(piece: WalPiece, segment: LogSegment) -> bytes:
    """The WAL of a segment. Raises ArtifactMissing, ArtifactCorrupt, CannotDecrypt, StorageError."""
    raw = piece.reader.read(segment)
    if parse_lsn(segment.begin) + len(raw) != parse_lsn(segment.end):
        raise ArtifactCorrupt(
            f"log segment {segment.number} has {len(raw)} bytes, but is from {segment.begin} to {segment.end}", remedy=REMEDY
        )
    return raw


def open_pieces(stretch: Stretch) -> list[WalPiece]:
    """The pieces of a stretch, verified to continue each other. Raises ArtifactMissing, ArtifactCorrupt, StorageError."""
    pieces: list[WalPiece] = []
    for each in stretch.pieces:
        pieces.append(WalPiece(stretch, each, pieces[-1].high if pieces else parse_lsn(each.begin)))
    last = pieces[-1]
    for piece in pieces[:-1]:
        try:
            left = last.history.left(piece.timeline)
        except Unfit as error:
            raise ArtifactCorrupt(str(error), remedy=REMEDY) from error
        if left != piece.high or (piece.details.system, piece.details.file_size) != (last.details.system, last.details.file_size):
            raise ArtifactCorrupt(
                f"series {last.number} of the log does not continue series {piece.number} at {format_lsn(piece.high)}",
                remedy=REMEDY,
            )
    return pieces


def find_highest_timeline(stretch: Stretch, system: int) -> int:
    """The highest timeline of this system in the log, whose number another server must not use. Raises StorageError."""
    found = [1]
    for location in list_series(stretch.store, stretch.log):
        with suppress(ArtifactError):
            details = SeriesDetails.of(_load_series(stretch, location.number))
            if details.system == system:
                found.append(details.timeline)
    return max(found)


def find_start(backup: Positions, log: Sequence[Contents]) -> Start | None:
    """See ``Logs``. Of several series with the position, the newest: that the WAL is the same is proven when it is replayed."""
    if backup.wal_stop is None or backup.timeline is None:
        return None
    position = parse_lsn(backup.wal_stop)
    for contents in sorted(log, key=lambda each: each.series.record.location.number, reverse=True):
        series = contents.series.record
        try:
            details = SeriesDetails.of(series)
        except ArtifactError:
            continue
        if details.timeline != backup.timeline or backup.system_identifier not in (None, str(details.system)):
            continue
        ends = contents.segments[max(contents.segments)].record.end if contents.segments else series.begin
        if parse_lsn(series.begin) <= position <= parse_lsn(ends):
            return Start(series.location.number, backup.wal_stop)
    return None


def _load_series(stretch: Stretch, number: int) -> Series:
    known = stretch.known.get(number)
    return known.series.record if known is not None else load_series(stretch.store, stretch.log.series(number)).record
