"""The index of a stream: where in it each file is, so that a single file can be fetched. An object of its own."""

from __future__ import annotations

import hashlib
import json

import zstandard

from strongroom.artifact._codec import Opener, Sealer
from strongroom.artifact._location import Location
from strongroom.artifact._manifest import Index
from strongroom.artifact._walk import Ranges, Walk
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, StorageNotFound
from strongroom.storage import Store

MAX_BYTES = 128 * 1024**2
_REMEDY = "The backup itself can still be restored; single files cannot be fetched from it."


def store_index(store: Store, location: Location, stream: Walk, sealer: Sealer) -> Index:
    """Put the index of ``stream``: ``{path: [[offset, length], …]}`` as JSON, compressed, then sealed."""
    packer = zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    pieces, mark = [], "{"
    for path, ranges in stream.ranges():  # one file at a time: there may be very many
        pieces.append(packer.compress(f"{mark}{json.dumps(path)}:{json.dumps(ranges, separators=(',', ':'))}".encode()))
        mark = ",\n"
    pieces.append(packer.compress(b"}"))
    pieces.append(packer.flush())
    data = sealer.seal(b"".join(pieces))
    store.put(location.index, data)
    return Index(stored=len(data), sha256=hashlib.sha256(data).hexdigest())


def load_index(store: Store, location: Location, index: Index, opener: Opener | None) -> dict[str, Ranges]:
    """The index at ``location``. Raises ArtifactMissing, ArtifactCorrupt."""
    try:
        data = store.get(location.index, length=min(index.stored, MAX_BYTES) + 1)
    except StorageNotFound as error:
        raise ArtifactMissing(f"{store.url(location.index)} is missing", remedy=_REMEDY) from error
    try:
        if hashlib.sha256(data).hexdigest() != index.sha256:
            raise ArtifactCorrupt("its SHA-256 is wrong")
        return _parse(opener.open(data) if opener else data)
    except (ArtifactCorrupt, zstandard.ZstdError, ValueError, TypeError, RecursionError) as error:
        raise ArtifactCorrupt(f"{store.url(location.index)} is damaged: {error}", remedy=_REMEDY) from error


def _parse(data: bytes) -> dict[str, Ranges]:
    with zstandard.ZstdDecompressor().stream_reader(data) as reader:
        text = reader.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ValueError("it is larger than an index can be")
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("it is not an object")
    return {path: [(_whole(offset), _whole(length)) for offset, length in ranges] for path, ranges in found.items()}


def _whole(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not an offset")
    return value
