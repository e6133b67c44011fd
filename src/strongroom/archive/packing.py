"""Packs the index of a segment into its record: JSON, compressed, sealed, as text. It unpacks to a bounded size."""

from __future__ import annotations

import base64
import binascii

import zstandard
from pydantic import ValidationError

from strongroom.archive.records import MAX_INDEX, SegmentIndex
from strongroom.artifact.segments.codec import Opener, Sealer
from strongroom.errors import ArtifactCorrupt

_EMPTY = SegmentIndex()
_PIECE = 1024**2


def pack_index(index: SegmentIndex, sealer: Sealer) -> str:
    """The text for a record; empty for an index without content."""
    if index == _EMPTY:
        return ""
    data = index.model_dump_json(exclude_defaults=True).encode()
    packed = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(data)
    return base64.b64encode(sealer.seal(packed)).decode()


def unpack_index(text: str, opener: Opener | None) -> SegmentIndex:
    """The index in a record. Raises ArtifactCorrupt, CannotDecrypt."""
    if not text:
        return _EMPTY
    try:
        data = base64.b64decode(text, validate=True)
        return SegmentIndex.model_validate_json(_decompress(opener.open(data) if opener else data))
    except (binascii.Error, zstandard.ZstdError, ValidationError) as error:
        raise ArtifactCorrupt(f"the index is damaged: {str(error).splitlines()[0]}") from error


def _decompress(data: bytes) -> bytes:
    pieces, size = [], 0
    with zstandard.ZstdDecompressor().stream_reader(data) as reader:
        while piece := reader.read(_PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > MAX_INDEX:
                raise ArtifactCorrupt(f"the index is larger than {MAX_INDEX} bytes")
    return b"".join(pieces)
