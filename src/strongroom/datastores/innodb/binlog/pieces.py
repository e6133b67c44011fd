"""Events in pieces: an event may have 1 GB, and is never held as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from strongroom.datastores.innodb.binlog.bodies import parse_format
from strongroom.datastores.innodb.binlog.header import FORMAT, MAGIC, SIZE, Checksum, Header, parse_header
from strongroom.errors import LogCorrupt

PIECE = 1 << 20
"""Most bytes of a piece: almost all events have one piece."""

_LONGEST_FORMAT = 1024


@dataclass(frozen=True, slots=True)
class Position:
    """An offset in a file of the server's log."""

    file: str
    offset: int

    def __str__(self) -> str:
        return f"{self.file}:{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Raises ValueError if it is not a position."""
        file, _, offset = text.rpartition(":")
        if not file or not offset.isdecimal():
            raise ValueError(f"{text[:80]!r} is not a position in a binary log")
        return cls(file, int(offset))

    def precedes(self, other: Position) -> bool:
        """Whether it is not after the other one. Both are of one server."""
        return (self._number, self.offset) <= (other._number, other.offset)

    @property
    def _number(self) -> int:
        number = self.file.rpartition(".")[2]
        if not number.isdecimal():
            raise ValueError(f"{self.file[:80]!r} is not a file of a binary log")
        return int(number)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an event. The checksum of the event was verified when its last piece is delivered."""

    header: Header
    start: Position
    """Where the event begins."""
    data: bytes
    is_first: bool = True
    is_last: bool = True
    checksum: int = 0
    """Bytes of checksum at the end of the event."""
    follows_skip: bool = False
    """Whether the server left out transactions before it, which the reader has by its GTIDs."""

    @property
    def end(self) -> Position:
        """Where the event ends."""
        return Position(self.start.file, self.start.offset + self.header.length)


class Splitter:
    """Cuts the bytes of a file into pieces of events: ``feed`` it, then ``finish``. Checksums and offsets are verified.

    With ``file`` the bytes begin with the magic number, or with the event at the offset ``at``, if the file ``has_checksums``;
    without they are events without checksums, as in compressed transactions. ``has_gaps``: the server has left out events, so
    that the others are at other offsets than they say.
    """

    def __init__(self, file: str | None, at: int = 0, *, has_checksums: bool = False, has_gaps: bool = False) -> None:
        self._file, self._has_gaps = file, has_gaps
        self._buffer = bytearray()
        self._at = at
        self._header: Header | None = None
        self._rest = 0
        self._crc: Checksum | None = None
        self._checksums = has_checksums
        self._wants_magic = file is not None and not at

    def feed(self, data: bytes) -> Iterator[Piece]:
        """Pieces of the events that these bytes complete or continue."""
        self._buffer += data
        if self._wants_magic:
            if len(self._buffer) < len(MAGIC):
                return
            if self._buffer[: len(MAGIC)] != MAGIC:
                raise LogCorrupt(f"{self._file} does not begin like a binary log")
            del self._buffer[: len(MAGIC)]
            self._at, self._wants_magic = len(MAGIC), False
        used = 0
        while (piece := self._take(used)) is not None:
            used += len(piece.data)
            yield piece
        del self._buffer[:used]

    def finish(self) -> None:
        """Raises LogCorrupt if the bytes end within an event."""
        if self._buffer or self._header is not None or self._wants_magic:
            raise LogCorrupt(f"{self._file or 'a compressed transaction'} ends within an event, at offset {self._at}")

    def _take(self, used: int) -> Piece | None:
        available = len(self._buffer) - used
        header = self._header
        is_first = header is None
        if header is None:
            if available < SIZE:
                return None
            header = parse_header(bytes(self._buffer[used : used + SIZE]))
            if available < min(header.length, PIECE):
                return None
            self._begin(header)
        size = min(self._rest, PIECE)
        if available < size:
            return None
        data = bytes(memoryview(self._buffer)[used : used + size])
        if is_first and header.kind == FORMAT and self._file is not None:
            self._checksums = parse_format(data).has_checksums
            self._crc = Checksum(header)
        self._rest -= size
        start = Position(self._file or "", self._at)
        is_last = self._rest == 0
        if self._crc is not None:
            self._crc.feed(data)
            if is_last and not self._crc.is_right:
                raise LogCorrupt(f"the event at {start} has a wrong checksum")
        checksum = 4 if self._crc is not None else 0
        if is_last:
            self._header, self._crc = None, None
            self._at += header.length
        return Piece(header, start, data, is_first, is_last, checksum)

    def _begin(self, header: Header) -> None:
        if self._file is not None and not self._has_gaps and header.end != (self._at + header.length) & 0xFFFFFFFF:
            raise LogCorrupt(f"the event at {self._file}:{self._at} belongs at another offset: it ends at {header.end}")
        if self._file is not None and self._at == len(MAGIC) and header.kind != FORMAT:
            raise LogCorrupt(f"{self._file} does not begin with a format description")
        if header.kind == FORMAT and header.length > _LONGEST_FORMAT:
            raise LogCorrupt(f"{self._file} has a format description of {header.length} bytes")
        self._header, self._rest = header, header.length
        self._crc = Checksum(header) if self._checksums else None
