"""A part of a log that is read from its beginning to its end, over the seams of its series."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from strongroom.archive.contents import Contents
from strongroom.archive.location import LogLocation
from strongroom.archive.reader import SegmentReader
from strongroom.archive.records import LogSegment
from strongroom.archive.window import Piece
from strongroom.storage import Store


@dataclass(frozen=True, slots=True)
class Stretch:
    """Pieces of a log that follow each other. It does not have to begin or end at the border of a segment."""

    store: Store
    log: LogLocation
    pieces: Sequence[Piece]
    identities: Sequence[str] = ()
    known: Mapping[int, Contents] = field(default_factory=dict)
    """By number: series whose records have been read and verified already, as by ``find_window``."""

    def open(self, series: int) -> SegmentReader:
        """A reader of one of its series."""
        return SegmentReader(self.store, self.log.series(series), self.identities)

    def segments(self) -> Iterator[tuple[SegmentReader, LogSegment]]:
        """Every segment in order, with what reads it. Raises ArtifactMissing, ArtifactCorrupt, StorageError."""
        for piece in self.pieces:
            reader = self.open(piece.series)
            known = self.known.get(piece.series)
            if known is None:
                segments = reader.segments(piece.first, piece.stop)
            else:
                segments = (known.segments[number].record for number in range(piece.first, piece.stop))
            for segment in segments:
                yield reader, segment
