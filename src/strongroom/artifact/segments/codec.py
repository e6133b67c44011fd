"""Converts segments to stored bytes and back: compression, then encryption. Output sizes are limited by the manifest."""

from __future__ import annotations

import io
import threading
import zlib
from collections.abc import Sequence
from typing import Literal, Protocol

import zstandard

from strongroom.artifact.segments.keys import parse_identities, parse_recipients
from strongroom.errors import ArtifactCorrupt, CannotDecrypt
from strongroom.system.imports import defer_modules

with defer_modules("pyrage"):
    import pyrage

CodecName = Literal["zstd", "gzip"]
DEFAULT_LEVEL = {"zstd": 1, "gzip": 6}
MAX_SEGMENT = 1024**3
"""Raw bytes of the largest segment that is read."""
_GZIP = 16 + zlib.MAX_WBITS
_NO_KEY = "No matching keys"


def most_stored(raw: int) -> int:
    """The maximum stored size of ``raw`` bytes of the stream: incompressible, with all headers."""
    return raw + raw // 64 + 64 * 1024


def _preallocate(size: int) -> io.BytesIO:
    """A preallocated buffer: pyrage.encrypt would hold its result twice, and a growing buffer fragments memory."""
    buffer = io.BytesIO()
    buffer.seek(max(0, size - 1))
    buffer.write(b"\0")
    buffer.seek(0)
    return buffer


class Compression(Protocol):
    """Compression of whole segments, from many threads."""

    def compress(self, data: bytes | memoryview) -> bytes: ...

    def decompress(self, data: bytes, buffer: memoryview) -> None:
        """Fill ``buffer`` exactly. Raises ArtifactCorrupt instead of producing more."""


class Zstd:
    """One zstd frame with its content size and a checksum."""

    def __init__(self, level: int) -> None:
        self._level = level
        self._local = threading.local()  # a compressor serves one thread at a time

    def compress(self, data: bytes | memoryview) -> bytes:
        if not hasattr(self._local, "compressor"):
            self._local.compressor = zstandard.ZstdCompressor(level=self._level, write_checksum=True)
        packed: bytes = self._local.compressor.compress(data)
        return packed

    def decompress(self, data: bytes, buffer: memoryview) -> None:
        try:
            frame = zstandard.get_frame_parameters(data)
            if frame.content_size != len(buffer):
                raise ArtifactCorrupt(f"the zstd frame does not contain {len(buffer)} bytes")
            if _frame_size(data, checksum=frame.has_checksum) != len(data):
                raise ArtifactCorrupt("it is not a single zstd frame")
            if not hasattr(self._local, "decompressor"):
                self._local.decompressor = zstandard.ZstdDecompressor()
            with self._local.decompressor.stream_reader(data) as reader:
                length = reader.readinto(buffer)
        except zstandard.ZstdError as error:
            raise ArtifactCorrupt(f"the zstd frame is damaged: {error}") from error
        if length != len(buffer):
            raise ArtifactCorrupt(f"the zstd frame contains {length} bytes, not {len(buffer)}")


def _frame_size(data: bytes, *, checksum: bool) -> int:
    """Length of the frame at the beginning of ``data``, by its headers (RFC 8878, 3.1.1); -1 if it is truncated."""
    at = zstandard.frame_header_size(data)
    while at + 3 <= len(data):
        head = int.from_bytes(data[at : at + 3], "little")
        at += 3 + (1 if head >> 1 & 3 == _RUN else head >> 3)
        if head & 1:
            return at + 4 if checksum else at
    return -1


_RUN = 1
"""Type of a block that is one byte, many times."""


class Gzip:
    """One gzip member."""

    def __init__(self, level: int) -> None:
        self._level = min(level, 9)

    def compress(self, data: bytes | memoryview) -> bytes:
        return zlib.compress(data, self._level, _GZIP)

    def decompress(self, data: bytes, buffer: memoryview) -> None:
        unpacker = zlib.decompressobj(_GZIP)
        try:
            raw = unpacker.decompress(data, len(buffer) + 1)
        except zlib.error as error:
            raise ArtifactCorrupt(f"the gzip member is damaged: {error}") from error
        if len(raw) != len(buffer) or not unpacker.eof or unpacker.unused_data:
            raise ArtifactCorrupt(f"the gzip member does not contain {len(buffer)} bytes")
        buffer[:] = raw


def compression(name: CodecName, level: int) -> Compression:
    """The compression by its name in the manifest."""
    return Zstd(level) if name == "zstd" else Gzip(level)


class Sealer:
    """Encrypts to age recipients; without recipients, returns the bytes unchanged."""

    def __init__(self, recipients: Sequence[str]) -> None:
        self._recipients = parse_recipients(recipients)

    def __bool__(self) -> bool:
        return bool(self._recipients)

    def seal(self, data: bytes) -> bytes:
        if not self._recipients:
            return data
        sealed = _preallocate(most_stored(len(data)))
        pyrage.encrypt_io(io.BytesIO(data), sealed, self._recipients)
        sealed.truncate()
        return sealed.getvalue()


class Opener:
    """Decrypts with age identities. ``what`` is the name for messages."""

    def __init__(self, identities: Sequence[str], what: str) -> None:
        self._identities = parse_identities(identities)
        self._what = what

    def fits(self, head: bytes) -> bool:
        """Whether an identity opens the file that begins with ``head``, which may be cut off."""
        try:
            pyrage.decrypt(head, self._identities)
        except pyrage.DecryptError as error:
            return _NO_KEY not in str(error)
        return True

    def open(self, data: bytes) -> bytes:
        """The decrypted bytes. Raises CannotDecrypt, or ArtifactCorrupt if they were changed."""
        clear = _preallocate(len(data))
        try:
            pyrage.decrypt_io(io.BytesIO(data), clear, self._identities)
        except pyrage.DecryptError as error:
            if _NO_KEY in str(error):
                raise self.refusal() from error
            raise ArtifactCorrupt(f"the age file is damaged: {error}") from error
        clear.truncate()
        return clear.getvalue()

    def refusal(self) -> CannotDecrypt:
        """The error if no identity fits."""
        count = len(self._identities)
        have = "no identity is configured" if not count else f"none of the {count} configured identities decrypts it"
        return CannotDecrypt(
            f"{self._what} is encrypted, and {have}",
            remedy="Add the file with the right age identity to encryption.identity_files.",
        )
