"""The events of a stretch of an archived log, from where the data is to the cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from strongroom.archive import LogSegment, SegmentReader, Stretch, load_segment
from strongroom.archive import Piece as Part
from strongroom.datastores.innodb.archive.details import SegmentDetails
from strongroom.datastores.innodb.binlog.header import CHECKSUM, FORMAT, MAGIC, parse_header
from strongroom.datastores.innodb.binlog.pieces import Piece, Position
from strongroom.datastores.innodb.replay.scan import Copied, Scanner
from strongroom.datastores.protocol.logs import Start
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, LogCorrupt

_NOWHERE = 1 << 63
_REMEDY = "Restore to a moment before this part of the log, or from a backup after it."


@dataclass(frozen=True, slots=True)
class Found:
    """A segment that is read, and the part of the server's file that it holds."""

    segment: LogSegment
    details: SegmentDetails

    @classmethod
    def of(cls, segment: LogSegment) -> Found:
        """Raises ArtifactCorrupt."""
        return cls(segment, SegmentDetails.of(segment))

    @property
    def first(self) -> Position:
        return Position(self.details.file, self.details.begin)

    @property
    def last(self) -> Position:
        return Position(self.details.file, self.details.begin + self.segment.raw)


class LogEvents:
    """Reads the stretch once, in order. Every segment is verified; a file begins with its format description.

    ``gtids`` are those of all transactions before the first event; empty if they are not known.
    """

    def __init__(self, stretch: Stretch, start: Start, end: str) -> None:
        self._stretch = stretch
        self._start = start
        self._end = Position.parse(end)
        self.gtids = ""
        self.skipped = 0
        """Bytes at the beginning of the stretch that are not read."""
        self.begins = 0
        """Where in the present file the replay begins: transactions before it are in the data."""

    def pieces(self) -> Iterator[Piece | Copied]:
        """Raises ArtifactError, StorageError; ArtifactMissing also if the stretch ends before the cut."""
        parts = list(self._stretch.pieces)
        while parts and parts[0].series != self._start.series:
            parts.pop(0)
        if not parts:
            raise ArtifactMissing(f"the log has no series {self._start.series}, in which the backup ends", remedy=_REMEDY)
        for number, part in enumerate(parts):
            begin = Position.parse(part.begin if number else self._start.position)
            end = self._end if part is parts[-1] else Position.parse(part.end)
            yield from self._read(part, begin, end)

    def _read(self, part: Part, begin: Position, end: Position) -> Iterator[Piece | Copied]:
        """The events of one series, to before the position ``end``."""
        reader = self._stretch.open(part.series)
        scanner: Scanner | None = None
        reached = Position.parse(part.begin)
        for segment in reader.segments(part.first, part.stop):
            found = Found.of(segment)
            if end.precedes(found.first):
                break
            if found.last.precedes(begin):
                reached = found.last
                self.skipped += segment.raw
                self.gtids = found.details.gtids
                continue
            self.begins = begin.offset if found.details.file == begin.file else 0
            offset = found.details.begin
            if scanner is None:
                _require_within(begin, found, reached)
                scanner, offset, pieces = self._enter(reader, part, found, begin)
                yield from pieces
            elif found.details.begin == 0:
                scanner = Scanner(found.details.file)
            elif found.first != reached:
                raise ArtifactCorrupt(f"log segment {segment.number} does not follow {reached}", remedy=_REMEDY)
            stop = end.offset if found.details.file == end.file else _NOWHERE
            for piece in scanner.feed(reader.read(segment)[max(0, offset - found.details.begin) :]):
                if isinstance(piece, Piece) and piece.start.offset >= stop:
                    return
                yield piece
            reached = found.last
        if not end.precedes(reached) and end != begin:
            raise ArtifactMissing(f"the archived log ends at {reached}, before {end}", remedy=_REMEDY)

    def _enter(
        self, reader: SegmentReader, part: Part, found: Found, begin: Position
    ) -> tuple[Scanner, int, Iterator[Piece | Copied]]:
        """What cuts the file from the first segment on, the offset at which it begins, and events before the segment."""
        if found.details.begin == 0:
            return Scanner(found.details.file), 0, iter(())
        location = self._stretch.log.series(part.series)

        def load(number: int) -> Found:
            return Found.of(load_segment(self._stretch.store, location, number).record)

        form = _find_format(reader, load, found, part.stop)
        offset, earlier = begin.offset, list[Found]()
        try:
            before = load(found.segment.number - 1)
            if before.details.file == found.details.file:
                offset, self.gtids = min(before.details.resume, begin.offset), before.details.gtids
            while offset < (
                earlier[0].details.begin if earlier else found.details.begin
            ):  # a transaction that is longer than a segment
                earlier.insert(0, load(found.segment.number - 1 - len(earlier)))
        except ArtifactMissing:  # after a gap; the data is at a border of transactions too
            offset, earlier = begin.offset, []
        scanner = Scanner(found.details.file, offset, has_checksums=found.details.has_checksums)

        def pieces() -> Iterator[Piece | Copied]:
            yield form
            for each in earlier:
                yield from scanner.feed(reader.read(each.segment)[max(0, offset - each.details.begin) :])

        return scanner, offset, pieces()


def _require_within(begin: Position, found: Found, reached: Position) -> None:
    """Require that the first segment contains the position of the data, or begins the file after it."""
    if found.first.precedes(begin) or (found.details.begin == 0 and reached == begin):
        return
    raise ArtifactMissing(f"the log has no segment with {begin}, where the data is", remedy=_REMEDY)


def _find_format(reader: SegmentReader, load: Callable[[int], Found], found: Found, stop: int) -> Piece:
    """The format description of the file of ``found``; if its head is lost, that of the next file, since both are of one server.

    A wrong one is noticed by the checksums of the events.
    """
    low, high = 0, found.segment.number
    with suppress(ArtifactMissing):
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if load(middle).details.file == found.details.file else (middle + 1, high)
        head = load(low)
        if head.details.file == found.details.file and head.details.begin == 0:
            return _read_format(reader, head)
    for number in range(found.segment.number + 1, stop):
        if (head := load(number)).details.begin == 0:
            return _read_format(reader, head)
    raise ArtifactMissing(f"the log has no segment with the head of {found.details.file}", remedy=_REMEDY)


def _read_format(reader: SegmentReader, head: Found) -> Piece:
    data = reader.read(head.segment)[len(MAGIC) :]
    header = parse_header(data)
    event = data[: header.length]
    if header.kind != FORMAT:
        raise LogCorrupt(f"{head.details.file} does not begin with a format description")
    return Piece(header, Position(head.details.file, len(MAGIC)), event, checksum=CHECKSUM)
