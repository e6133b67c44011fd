"""Reads a tar stream of pg_basebackup, as hostile input: plain files and directories in the ustar format, nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from strongroom.errors import ArtifactCorrupt

BLOCK = 512
_REMEDY = "It is not a whole backup of PostgreSQL; restore another one."


@dataclass(frozen=True, slots=True)
class Member:
    """A file or directory of the stream. ``path`` is relative and stays below where it is unpacked."""

    path: str
    kind: Literal["file", "directory"]
    size: int
    mode: int


class TarReader:
    """Members in their order; ``data`` gives the content of the one that ``members`` gave last, which is skipped otherwise."""

    def __init__(self, chunks: Iterator[bytes | memoryview]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")
        self._left = 0
        self._padding = 0

    def members(self) -> Iterator[Member]:
        """Raises ArtifactCorrupt where the stream is no tar, ends too early, or goes on after its end."""
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
                raise _corrupt("goes on after its end")
            try:
                zeros = memoryview(next(self._chunks))
            except StopIteration:
                return

    def data(self) -> Iterator[memoryview]:
        """The content of the member, in pieces that are not copied."""
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
    if header[257:262] != b"ustar":
        raise _corrupt("has a header that is not ustar")
    if sum(header[:148]) + 8 * 0x20 + sum(header[156:]) != _octal(header[148:156]):
        raise _corrupt("has a header with a wrong sum")
    name, prefix = (bytes(field).partition(b"\0")[0] for field in (header[:100], header[345:500]))
    path = (prefix + b"/" + name if prefix else name).decode("utf-8", "surrogateescape").removeprefix("./").rstrip("/")
    kind: Literal["file", "directory"]
    match header[156:157]:
        case b"0" | b"\0":
            kind = "file"
        case b"5":
            kind = "directory"
        case b"1" | b"2":
            raise _corrupt(f"holds a link, {path!r}: tablespaces cannot be restored")
        case other:
            raise _corrupt(f"holds a member of type {other!r}, {path!r}")
    parts = path.split("/")
    if (kind == "file" or path not in ("", ".")) and any(part in ("", ".", "..") for part in parts):
        raise _corrupt(f"holds a file that would lead outside, {path!r}")
    size = _number(header[124:136]) if kind == "file" else 0
    return Member("" if path == "." else path, kind, size, _octal(header[100:108]))


def _number(field: bytes) -> int:
    return int.from_bytes(field[1:]) if field[0] == 0x80 else _octal(field)


def _octal(field: bytes) -> int:
    text = field.strip(b"\0 ")
    if not all(0x30 <= digit <= 0x37 for digit in text):
        raise _corrupt("has a header with a number that is none")
    return int(text or b"0", 8)


def _corrupt(what: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(f"the stream {what}", remedy=_REMEDY)
