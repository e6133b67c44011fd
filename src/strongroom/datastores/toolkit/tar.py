"""Tar streams: plain files and directories in the ustar format, nothing else. What is read is hostile."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator

from strongroom.artifact import Member
from strongroom.errors import ArtifactCorrupt

BLOCK = 512
_REMEDY = "The backup is incomplete; restore another one."
_LARGEST = 8**11
"""The smallest size that does not fit into its field as text."""


def make_header(path: str, size: int, *, directory: bool = False, mode: int = 0o600, modified: int = 0) -> bytes:
    """The header of a member. ``modified`` is Unix time. Raises ValueError if the path is too long for a header."""
    info = tarfile.TarInfo(path)
    info.mode = 0o700 if directory else mode
    info.type = tarfile.DIRTYPE if directory else tarfile.REGTYPE
    info.mtime = modified
    info.size = size if size < _LARGEST else 0
    made = bytearray(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "surrogateescape"))
    if size >= _LARGEST:
        made[124:136] = b"\x80" + size.to_bytes(11)
        made[148:156] = b" " * 8
        made[148:156] = b"%06o\0 " % sum(made)
    return bytes(made)


class TarReader:
    """Reads members in their order. ``data`` returns the content of the current member, which is skipped otherwise."""

    def __init__(self, chunks: Iterator[bytes | memoryview]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._left = 0
        self._padding = 0

    def members(self) -> Iterator[Member]:
        """Raises ArtifactCorrupt if the stream is not tar, ends too early, or has data after its end."""
        while True:
            for _ in self.data():
                pass
            self._exact(self._padding)
            self._padding = 0
            header = self._exact(BLOCK)
            if not any(header):
                break
            member = _parse(header)
            self._left, self._padding = member.size, -member.size % BLOCK
            yield member
        zeros = self._rest
        while True:
            if any(zeros):
                raise _corrupt("has data after its end")
            try:
                zeros = memoryview(next(self._chunks))
            except StopIteration:
                return

    def data(self) -> Iterator[memoryview]:
        """The content of the member, in pieces, without copying."""
        while self._left:
            piece = self._next(self._left)
            self._left -= len(piece)
            yield piece

    def _next(self, most: int) -> memoryview:
        while not self._rest:
            try:
                self._rest = memoryview(next(self._chunks))
            except StopIteration:
                raise _corrupt("ends too early") from None
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece

    def _exact(self, size: int) -> bytes:
        parts = []
        while size:
            parts.append(self._next(size))
            size -= len(parts[-1])
        return b"".join(parts)


def _parse(header: bytes) -> Member:
    member = Member.parse(header)
    if member.kind == "link":
        raise _corrupt(f"holds a link, {member.path!r}: tablespaces cannot be restored")
    return member


def _corrupt(what: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(f"the stream {what}", remedy=_REMEDY)
