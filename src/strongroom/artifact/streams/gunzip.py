"""gzip of any length to bytes: several members one after the other, in bounded memory whatever the stream says."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator

from strongroom.errors import ArtifactCorrupt

_GZIP = 16 + zlib.MAX_WBITS
_STEP = 512 * 1024
"""Bytes that zlib gets at a time. What it does not take of them it hands back as a copy, so they are not many."""
_MOST = 4 * 1024**2
"""Bytes that come out at a time, at most."""


def gunzip(stream: Iterable[bytes]) -> Iterator[bytes]:
    """The content of the gzip members of ``stream``; zeros after a member are padding.

    Raises ArtifactCorrupt when it is not gzip, is damaged (each member has a CRC-32 and a length) or ends too early.
    """
    unpacker, fresh, members = zlib.decompressobj(_GZIP), True, 0
    for piece in stream:
        view = memoryview(piece)
        for start in range(0, len(view), _STEP):
            data: bytes | memoryview = view[start : start + _STEP]
            if fresh and members:
                data = bytes(data).lstrip(b"\0")
            raw = b""
            while data or len(raw) == _MOST:
                try:
                    raw = unpacker.decompress(data, _MOST)
                except zlib.error as error:
                    raise ArtifactCorrupt(f"the gzip stream is damaged: {error}") from error
                fresh = False
                if raw:
                    yield raw
                data = unpacker.unconsumed_tail
                if unpacker.eof:
                    data, raw = unpacker.unused_data.lstrip(b"\0"), b""
                    unpacker, fresh, members = zlib.decompressobj(_GZIP), True, members + 1
    if not fresh or not members:
        raise ArtifactCorrupt("the gzip stream ends too early")
