"""The transactions of a stored segment, read from its bytes and, if one of them began before it, from those before it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from strongroom.archive import LogSegment, Piece, Stretch
from strongroom.archive.times import read_times
from strongroom.datastores.innodb.archive.details import SegmentDetails
from strongroom.datastores.innodb.binlog.groups import Dialect, Group, Grouper
from strongroom.datastores.innodb.binlog.pieces import Position, Splitter
from strongroom.errors import ArtifactCorrupt, ArtifactMissing


class Segments:
    """The segments of a piece of a log, by number. What was read is kept, without the bytes."""

    def __init__(self, stretch: Stretch, piece: Piece, dialect: Dialect) -> None:
        self.numbers = range(piece.first, piece.stop)
        self.series = piece.series
        self._reader, self._dialect = stretch.open(piece.series), dialect
        self._known = known.segments if (known := stretch.known.get(piece.series)) else {}
        self._records: dict[int, tuple[LogSegment, SegmentDetails]] = {}

    def record(self, number: int) -> LogSegment:
        """Raises ArtifactMissing, ArtifactCorrupt, StorageError; and so do all other methods."""
        return self._load(number)[0]

    def details(self, number: int) -> SegmentDetails:
        return self._load(number)[1]

    def _load(self, number: int) -> tuple[LogSegment, SegmentDetails]:
        if number not in self._records:
            if (known := self._known.get(number)) is not None:
                record = known.record
            else:
                (record,) = self._reader.segments(number, number + 1)
            self._records[number] = (record, SegmentDetails.of(record))
        return self._records[number]

    @property
    def begin_time(self) -> int:
        """Before it, something may have been committed that is not in these segments. At the beginning of a series, the archive
        knows only when it began to read, and of what it read then, when it was committed.
        """
        first = self.numbers[0]
        if first:
            try:
                return self.details(first - 1).time
            except ArtifactMissing:  # it was removed: whoever asks knows a backup that is complete in this segment
                return 0
        started = self._reader.series().started
        earliest = self.record(first).first_time
        return started if earliest is None else min(started, earliest)

    def times(self, number: int) -> Sequence[int]:
        """Of every transaction that ends in the segment, in microseconds; never earlier than the one before it."""
        record = self.record(number)
        times = read_times(self._reader.index(record).times, record.first_time) if record.first_time is not None else ()
        if len(times) != record.transactions:
            raise ArtifactCorrupt(f"the index of log segment {number} does not have the times of its transactions")
        return times

    def groups(self, number: int) -> Iterator[Group]:
        """Every transaction that ends in the segment."""
        grouper = Grouper(self._dialect)
        first, skip, splitter = self._find_begin(number)
        file = self.details(first).file
        for each in range(first, number + 1):
            details = self.details(each)
            if details.file != file:
                file, splitter = details.file, Splitter(details.file)
            data = self._reader.read(self.record(each))[skip:]
            skip = 0
            for piece in splitter.feed(data):
                for group in grouper.feed(piece):
                    if each == number:
                        yield group

    def _find_begin(self, number: int) -> tuple[int, int, Splitter]:
        """The segment in which reading begins, at which of its bytes, and what splits them."""
        details = self.details(number)
        start, first = details.first, number
        while not Position(details.file, details.begin).precedes(start):
            first -= 1
            details = self.details(first)
        splitter = Splitter(start.file, start.offset, has_checksums=details.has_checksums)
        return first, start.offset - details.begin, splitter
