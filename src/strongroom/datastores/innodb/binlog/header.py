"""The common header of events, and their checksums."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from strongroom.errors import LogCorrupt

MAGIC = b"\xfebin"
START_ENCRYPTION = 164
"""MariaDB: the file is encrypted from here on. What the server sends to its readers is not."""
QUERY, STOP, ROTATE, FORMAT, XID, TABLE_MAP, INCIDENT, HEARTBEAT, XA_PREPARE, HEARTBEAT_V2 = 2, 3, 4, 15, 16, 19, 26, 27, 38, 41
INSERTS = frozenset({20, 23, 30, 166, 169})
UPDATES = frozenset({21, 24, 31, 39, 167, 170})
DELETES = frozenset({22, 25, 32, 168, 171})
ROWS = INSERTS | UPDATES | DELETES
"""Events of changed rows in all versions, compressed ones of MariaDB included. What precedes the rows is never compressed."""
ARTIFICIAL = 0x20
IN_USE = 0x01
SIZE = 19
CHECKSUM = 4
LONGEST = (1 << 30) + (1 << 20)
"""Bytes of an event: both servers limit it to 1 GiB."""
_HEADER = struct.Struct("<IBIIIH")
_FLAGS = 17


@dataclass(frozen=True, slots=True)
class Header:
    """The header of an event. ``end`` is the low 32 bits of the offset after it in its file; 0 if it is in no file."""

    time: int
    kind: int
    server_id: int
    length: int
    end: int
    flags: int

    @property
    def is_artificial(self) -> bool:
        """Whether the server made it for its reader: it is in no file."""
        if self.flags & ARTIFICIAL or self.kind in (HEARTBEAT, HEARTBEAT_V2):
            return True
        return self.end == 0 and self.kind in (FORMAT, START_ENCRYPTION)  # when reading begins within a file


def parse_header(data: bytes | memoryview, at: int = 0) -> Header:
    """The header at an offset. Raises LogCorrupt if no event can begin there."""
    if len(data) - at < SIZE:
        raise LogCorrupt("the binary log ends within the header of an event")
    header = Header(*_HEADER.unpack_from(data, at))
    if not SIZE <= header.length <= LONGEST or header.kind == 0:
        raise LogCorrupt(f"the binary log has no valid event header: kind {header.kind}, {header.length} bytes")
    return header


class Checksum:
    """The CRC32 of an event that arrives in pieces. Its last four bytes are the stored checksum, and are not in it."""

    def __init__(self, header: Header) -> None:
        self._header = header
        self._crc = 0
        self._tail = b""
        self._first = True

    def feed(self, data: bytes) -> None:
        """The next piece. The first one holds at least the header."""
        if self._first and self._header.kind == FORMAT and data[_FLAGS] & IN_USE:
            data = data[:_FLAGS] + bytes([data[_FLAGS] & ~IN_USE]) + data[_FLAGS + 1 :]  # set without a new checksum
        self._first = False
        data = self._tail + data
        self._crc = zlib.crc32(data[:-CHECKSUM], self._crc)
        self._tail = data[-CHECKSUM:]

    @property
    def is_right(self) -> bool:
        return len(self._tail) == CHECKSUM and int.from_bytes(self._tail, "little") == self._crc
