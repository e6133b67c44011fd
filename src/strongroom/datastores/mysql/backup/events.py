"""Reads binary logs: the tables that their events change, and their statements. Row images are ignored."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard

from strongroom.errors import ArtifactCorrupt

MAGIC = b"\xfebin"
QUERY, ROTATE, FORMAT, TABLE_MAP, INCIDENT = 2, 4, 15, 19, 26
ANONYMOUS, PAYLOAD = 34, 40
GTIDS = {33, 42}
STATEMENTS = {5, 9, 11, 13, 14, 17, 18}
"""Values of variables, random numbers and pieces of LOAD DATA: they only come with changes that were logged as statements."""
_PASSED = {3, 4, 15, 16, 23, 24, 25, 27, 29, 30, 31, 32, 35, 36, 37, 38, 39, 41}
_WANTED = {QUERY, TABLE_MAP, INCIDENT, ANONYMOUS, PAYLOAD} | GTIDS | STATEMENTS
_IGNORABLE = 0x80
_HEADER = struct.Struct("<IBIIIH")
_QUERY = struct.Struct("<IIBHH")
_QUIET = (b"BEGIN", b"COMMIT")
_NO_BACKSLASH_ESCAPES = 1 << 20
_LONGEST = 1 << 30


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that is replayed as text."""

    schema: str
    text: str
    plain_backslashes: bool = False
    """Whether a backslash is an ordinary character (sql_mode NO_BACKSLASH_ESCAPES)."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A table with changed rows."""

    schema: str
    table: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An event of another kind: its number."""

    kind: int


Event = Statement | Changed | Mark


def read_events(path: Path, start: int = 4) -> Iterator[Event]:
    """The events of a log from this position on. Immediate repetitions of a table are left out.

    Raises ArtifactCorrupt when it is no binary log. A log that is still written ends where its last whole event ends.
    """
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise ArtifactCorrupt(f"{path.name} is not a binary log")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield from _Reader(path.name).read(data, start)


class _Reader:
    def __init__(self, name: str) -> None:
        self._name = name
        self._checksum = 0
        self._last = b""

    def read(self, data: mmap.mmap | bytes, start: int) -> Iterator[Event]:
        """Events of a file. The first event, also if it is before ``start``, says whether the others have checksums."""
        if len(data) > 4 + _HEADER.size:
            _, kind, _, size, _, _ = _HEADER.unpack_from(data, 4)
            if kind != FORMAT or 4 + size > len(data):
                raise self._broken(4)
            self._checksum = 4 if data[4 + size - 5] == 1 else 0
        yield from self._walk(data, start)

    def _walk(self, data: mmap.mmap | bytes, at: int) -> Iterator[Event]:
        end, unpack, length = len(data), _HEADER.unpack_from, _HEADER.size
        while at + length <= end:
            _, kind, _, size, _, flags = unpack(data, at)
            if size < length:
                raise self._broken(at)
            if at + size > end:
                return
            if kind in _WANTED:
                yield from self._event(kind, data[at + length : at + size - self._checksum], at)
            elif kind not in _PASSED and not flags & _IGNORABLE:
                yield Mark(kind)
            at += size

    def _event(self, kind: int, body: bytes, at: int) -> Iterator[Event]:
        try:
            if kind == TABLE_MAP:
                if body[8:] != self._last:
                    self._last = body[8:]
                    yield _table(body)
            elif kind == QUERY:
                _, _, schema_length, _, variables = _QUERY.unpack_from(body)
                names = _QUERY.size + variables
                text = body[names + schema_length + 1 :]
                if text not in _QUIET:
                    schema = body[names : names + schema_length]
                    plain = bool(_sql_mode(body[_QUERY.size : names]) & _NO_BACKSLASH_ESCAPES)
                    yield Statement(schema.decode(errors="replace"), text.decode(errors="replace"), plain)
            elif kind == PAYLOAD:
                inner = _Reader(self._name)  # events in it have no checksums
                yield from inner._walk(_unpacked(body), 0)
            else:
                yield Mark(kind)
        except (struct.error, IndexError, ValueError, zstandard.ZstdError) as error:
            raise self._broken(at) from error

    def _broken(self, at: int) -> ArtifactCorrupt:
        return ArtifactCorrupt(f"{self._name} cannot be read at {at}: no known event begins there")


def _sql_mode(variables: bytes) -> int:
    """Whether a statement has NO_BACKSLASH_ESCAPES: flags come first, then the mode."""
    at = 5 if variables[:1] == b"\0" else 0
    return int.from_bytes(variables[at + 1 : at + 9], "little") if variables[at : at + 1] == b"\1" else 0


def _table(body: bytes) -> Changed:
    length = body[8]
    schema, at = body[9 : 9 + length], 9 + length + 1
    table = body[at + 1 : at + 1 + body[at]]
    return Changed(schema.decode(errors="replace"), table.decode(errors="replace"))


def _unpacked(body: bytes) -> bytes:
    """The events of a compressed transaction (binlog_transaction_compression)."""
    at, fields = 0, dict[int, int]()
    while True:
        kind, at = _integer(body, at)
        if kind == 0:
            break
        length, at = _integer(body, at)
        fields[kind], _ = _integer(body, at)
        at += length
    data = body[at : at + fields.get(1, len(body))]
    if fields.get(2, 255) == 255:
        return data
    if fields[2] != 0 or fields.get(3, 0) > _LONGEST:
        raise ValueError("its compression is unknown")
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        return reader.read(_LONGEST)


def _integer(body: bytes, at: int) -> tuple[int, int]:
    """A number in the encoding of the protocol, and the offset of the next one."""
    first = body[at]
    if first < 251:
        return first, at + 1
    length = {252: 2, 253: 3, 254: 8}[first]
    return int.from_bytes(body[at + 1 : at + 1 + length], "little"), at + 1 + length
