"""The index of a stream: the ranges of each file, to fetch single files. A separate object."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import zstandard

from strongroom.artifact.records.manifest import Index
from strongroom.artifact.segments.codec import Opener, Sealer
from strongroom.artifact.streams.walk import Ranges, Walk
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, StorageNotFound
from strongroom.storage import Store

MAX_BYTES = 128 * 1024**2
_PIECE = 1024**2
_SMALLEST_PART = 15
"""Bytes of a stream that belong to one file without content: the header of a chunk of an mbstream, with a name of one letter."""
_MOST_PARTS = 6_000_000
"""Files and ranges of the largest index that is read: three million files."""
_TEXT_PER_BYTE = 8
"""A byte of a name may be six in JSON."""
_SLACK = 64 * 1024
_REMEDY = "The backup itself can still be restored; single files cannot be fetched from it."


def store_index(store: Store, key: str, stream: Walk, sealer: Sealer) -> Index | None:
    """Put the index of ``stream``: ``{path: [[offset, length], …]}`` as JSON, compressed, then sealed.

    None, and nothing is stored, if it would be larger than those that ``load_index`` reads.
    """
    packer = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    pieces, mark, size, parts = [], "{", 1, 0
    for path, ranges in stream.ranges():  # one file at a time: there may be very many
        text = f"{mark}{json.dumps(path)}:{json.dumps(ranges, separators=(',', ':'))}".encode()
        size, parts = size + len(text), parts + 1 + len(ranges)
        if size > MAX_BYTES or parts > _MOST_PARTS:
            return None
        pieces.append(packer.compress(text))
        mark = ",\n"
    pieces.append(packer.compress(b"}"))
    pieces.append(packer.flush())
    data = sealer.seal(b"".join(pieces))
    store.put(key, data)
    return Index(stored=len(data), sha256=hashlib.sha256(data).hexdigest())


def load_index(store: Store, key: str, index: Index, opener: Opener | None, raw_size: int) -> dict[str, Ranges]:
    """The index of a stream of ``raw_size`` bytes. Raises ArtifactMissing, ArtifactCorrupt.

    What is stored may be made to unpack to any size: no more is read than an index of such a stream can have.
    """
    try:
        data = store.get(key, length=min(index.stored, MAX_BYTES) + 1)
    except StorageNotFound as error:
        raise ArtifactMissing(f"{store.url(key)} is missing", remedy=_REMEDY) from error
    try:
        if hashlib.sha256(data).hexdigest() != index.sha256:
            raise ArtifactCorrupt("its SHA-256 is wrong")
        return _parse(opener.open(data) if opener else data, raw_size)
    except (ArtifactCorrupt, zstandard.ZstdError, ValueError, TypeError, RecursionError) as error:
        raise ArtifactCorrupt(f"{store.url(key)} is damaged: {error}", remedy=_REMEDY) from error


def _parse(data: bytes, raw_size: int) -> dict[str, Ranges]:
    """One or more files a line, as they are written; so what is held at a time is a line."""
    found: dict[str, Ranges] = {}
    lines = _lines(data, raw_size)
    line = next(lines).strip()
    if not line.startswith(b"{"):
        raise ValueError("it is not an object")
    line = line[1:]
    for following in lines:
        _take(line, found)
        line = following.strip()
    if not line.endswith(b"}"):
        raise ValueError("it is cut off")
    _take(line[:-1], found)
    return found


def _take(line: bytes, found: dict[str, Ranges]) -> None:
    for path, ranges in json.loads(b"{" + line.removesuffix(b",") + b"}").items():
        found[path] = [(_whole(offset), _whole(length)) for offset, length in ranges]


def _lines(data: bytes, raw_size: int) -> Iterator[bytes]:
    """The lines of the text. Raises ValueError once there is more of it than the index of such a stream can have."""
    most_text = min(MAX_BYTES, _TEXT_PER_BYTE * raw_size + _SLACK)
    most_parts = min(_MOST_PARTS, 2 * (raw_size // _SMALLEST_PART) + 2)
    size = parts = commas = 0
    pending = b""
    with zstandard.ZstdDecompressor().stream_reader(data) as reader:
        while piece := reader.read(_PIECE):
            size, parts, commas = size + len(piece), parts + piece.count(b"["), commas + piece.count(b",")
            if size > most_text or parts + piece.count(b"{") > most_parts + _SLACK or commas > 2 * most_parts + _SLACK:
                raise ValueError("it is larger than an index of this stream can be")
            *whole, pending = (pending + piece).split(b"\n")
            yield from whole
    yield pending


def _whole(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not an offset")
    return value
