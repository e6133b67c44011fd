"""Binary logs of MariaDB and MySQL: made by hand for parsers, and as the files of a server."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from strongroom.datastores.innodb.binlog.pieces import Piece

MAGIC = b"\xfebin"


def event(kind: int, body: bytes, at: int, *, checksum: bool = True, time: int = 1_700_000_000, flags: int = 0) -> bytes:
    """An event that begins at an offset."""
    length = 19 + len(body) + (4 if checksum else 0)
    data = struct.pack("<IBIIIH", time, kind, 7, length, (at + length) & 0xFFFFFFFF, flags) + body
    return data + struct.pack("<I", zlib.crc32(data)) if checksum else data


def format_event(at: int = 4, *, checksums: bool = True) -> bytes:
    body = struct.pack("<H50sIB", 4, b"10.11.18-MariaDB-log", 0, 19) + bytes(170) + bytes([checksums])
    return event(15, body, at)


def log(events: Iterable[tuple[int, bytes]], *, checksums: bool = True) -> bytes:
    """A file: the magic number, a format description, and these events."""
    data = bytearray(MAGIC + format_event(checksums=checksums))
    for kind, body in events:
        data += event(kind, body, len(data), checksum=checksums)
    return bytes(data)


def closed(path: Path) -> bytes:
    """A file of a server, as it is once the server has closed it: without the flag that says that it is in use."""
    data = bytearray(path.read_bytes())
    data[4 + 17] &= 0xFE
    return bytes(data)


def join(pieces: Iterable[Piece]) -> dict[str, bytes]:
    """The files that the pieces are of. Fails unless each continues the one before it."""
    files: dict[str, bytearray] = {}
    for piece in pieces:
        file = files.setdefault(piece.start.file, bytearray(MAGIC))
        if piece.is_first:
            assert len(file) == piece.start.offset, f"{piece.start} follows {len(file)}"
        file += piece.data
    return {name: bytes(data) for name, data in files.items()}
