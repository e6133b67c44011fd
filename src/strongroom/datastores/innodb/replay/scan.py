"""Cuts a file into the events that say where transactions begin and end, and what is between them, which is only copied.

Most events of a log are changes of rows. Their checksums are verified by the server that applies them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from strongroom.datastores.innodb.binlog.bodies import parse_format
from strongroom.datastores.innodb.binlog.header import (
    CHECKSUM,
    FORMAT,
    LONGEST,
    MAGIC,
    ROWS,
    SIZE,
    TABLE_MAP,
    Checksum,
    Header,
    parse_header,
)
from strongroom.datastores.innodb.binlog.pieces import PIECE, Piece, Position
from strongroom.errors import LogCorrupt

_HEADER = struct.Struct("<IBIIIH")
_LOW = 0xFFFFFFFF
_VARIABLES, _LOADED_FILES, _TEXTS = frozenset({5, 13, 14}), frozenset({9, 11, 17, 18}), frozenset({29, 160})
COPIED = ROWS | {TABLE_MAP} | _VARIABLES | _LOADED_FILES | _TEXTS
"""Events that neither begin nor end a transaction."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Events that follow each other, and parts of such events."""

    data: bytes
    has_rows: bool


class Scanner:
    """``feed`` it the bytes of a file, from the offset ``at`` on, where an event begins. Memory is bounded."""

    def __init__(self, file: str, at: int = 0, *, has_checksums: bool = False) -> None:
        self._file, self._at, self._has_checksums = file, at, has_checksums
        self._rest = b""
        self._wants_magic = not at
        self._left = 0
        """Bytes that are missing of a long event."""
        self._long: tuple[Header, Position, Checksum | None] | None = None
        """A long event that is not copied."""

    def feed(self, data: bytes) -> Iterator[Piece | Copied]:
        """Raises LogCorrupt."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        at = self._begin(data) if self._wants_magic else 0
        if self._wants_magic:
            self._rest = data
            return
        copied, has_rows = at, False
        while True:
            if self._left:
                at, piece = self._continue(data, at)
                if piece is not None:
                    copied = at
                    yield piece
                    continue
                if self._left:
                    break
            if len(data) - at < SIZE:
                break
            time, kind, server_id, length, end, flags = _HEADER.unpack_from(data, at)
            if (self._at + length) & _LOW != end or not SIZE <= length <= LONGEST or not kind:
                raise LogCorrupt(f"the binary log has no valid event at {self._file}:{self._at}: kind {kind}, {length} bytes")
            if kind in COPIED:
                has_rows = has_rows or kind in ROWS
                self._at += length
                self._left = max(0, length - (len(data) - at))
                at = min(len(data), at + length)
                continue
            if copied < at:
                yield Copied(data[copied:at], has_rows)
            copied, has_rows = at, False
            if len(data) - at < min(length, PIECE):
                break
            header = Header(time, kind, server_id, length, end, flags)
            piece = self._take(header, data[at : at + min(length, PIECE)])
            at += len(piece.data)
            copied = at
            yield piece
        if copied < at:
            yield Copied(data[copied:at], has_rows)
        self._rest = data[at:]

    def _begin(self, data: bytes) -> int:
        if len(data) < len(MAGIC):
            return 0
        if not data.startswith(MAGIC):
            raise LogCorrupt(f"{self._file} does not begin like a binary log")
        self._wants_magic = False
        self._at = len(MAGIC)
        return len(MAGIC)

    def _continue(self, data: bytes, at: int) -> tuple[int, Piece | None]:
        """Continue a long event. Of one that is not copied, the next piece if it is complete."""
        available = len(data) - at
        if self._long is None:
            size = min(self._left, available)
            self._left -= size
            return at + size, None
        size = min(self._left, PIECE)
        if available < size:
            return at, None
        header, start, crc = self._long
        piece = data[at : at + size]
        self._left -= size
        if crc is not None:
            crc.feed(piece)
        if not self._left:
            self._long = None
            _require_right(crc, start)
        return at + size, Piece(header, start, piece, False, not self._left, CHECKSUM if crc else 0)

    def _take(self, header: Header, data: bytes) -> Piece:
        """An event that is not copied, or the first piece of a long one."""
        start = Position(self._file, self._at)
        if header.kind == FORMAT:
            parse_header(data)
            self._has_checksums = parse_format(data).has_checksums
        elif self._at == len(MAGIC):
            raise LogCorrupt(f"{self._file} does not begin with a format description")
        crc = Checksum(header) if self._has_checksums or header.kind == FORMAT else None
        if crc is not None:
            crc.feed(data)
        self._at += header.length
        self._left = header.length - len(data)
        if self._left:
            self._long = header, start, crc
        else:
            _require_right(crc, start)
        return Piece(header, start, data, True, not self._left, CHECKSUM if crc else 0)


def _require_right(crc: Checksum | None, start: Position) -> None:
    if crc is not None and not crc.is_right:
        raise LogCorrupt(f"the event at {start} has a wrong checksum")
