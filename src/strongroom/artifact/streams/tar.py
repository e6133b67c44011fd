"""Walks a tar stream as it passes by: proves that it is whole, and finds where in it each file is.

The ustar format as PostgreSQL writes it: plain files, directories and symbolic links, sizes over 8 GiB in base 256, two blocks of
zeros at the end and nothing but zeros after them. Read as hostile input.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from strongroom.artifact.streams.walk import Ranges, Tap
from strongroom.errors import ArtifactCorrupt

BLOCK = 512
_MAX_KEPT = 64 * 1024**2
_KINDS: dict[bytes, Literal["file", "directory", "link"]] = {b"0": "file", b"\0": "file", b"5": "directory", b"2": "link"}


@dataclass(frozen=True, slots=True)
class Member:
    """A file, directory or symbolic link of the stream. ``path`` is relative, stays below the top, and is empty for the top."""

    path: str
    kind: Literal["file", "directory", "link"]
    size: int
    mode: int
    target: str = ""

    @classmethod
    def parse(cls, header: bytes) -> Member:
        """The member that a header of one block describes. Raises ArtifactCorrupt."""
        if header[257:262] != b"ustar":
            raise _malformed("a header that is not ustar")
        if sum(header[:148]) + 8 * 0x20 + sum(header[156:]) != _octal(header[148:156]):
            raise _malformed("a header with a wrong sum")
        name, target, prefix = (_text(field) for field in (header[:100], header[157:257], header[345:500]))
        path = (f"{prefix}/{name}" if prefix else name).removeprefix("./").rstrip("/")
        kind = _KINDS.get(header[156:157])
        if kind is None:
            name = "a hard link" if header[156:157] == b"1" else f"a member of type {header[156:157]!r}"
            raise _malformed(f"{name}, {path!r}")
        if path == "." and kind == "directory":
            path = ""
        if (path or kind != "directory") and any(part in ("", ".", "..") for part in path.split("/")):
            raise _malformed(f"path {path!r} leads outside")
        return cls(path, kind, _number(header[124:136]) if kind == "file" else 0, _octal(header[100:108]), target)


class Tar:
    """Feed it the stream in pieces of any size, then ``finish``. Contents are skipped, never copied.

    Except those of the files that ``keep`` names: ``kept`` has their content, unless it is larger than 64 MiB.
    """

    def __init__(self, keep: Collection[str] = ()) -> None:
        self.kept: dict[str, bytearray] = {}
        self.tap: Tap | None = None
        self._path = ""
        self._size = 0
        self._keep = keep
        self._keeping: bytearray | None = None
        self._files: dict[str, array[int]] = {}
        self._position = 0
        self._left = 0
        self._padding = 0
        self._held = b""
        self._ended = False

    def feed(self, data: bytes | memoryview) -> None:
        """The next piece of the stream. Raises ArtifactCorrupt when it cannot be one."""
        view = memoryview(data)
        at, size = 0, len(view)
        while at < size:
            if self._ended:
                if any(view[at:]):
                    raise _malformed("continues after its end", self._position)
                self._position += size - at
                return
            if self._left:
                step = min(self._left, size - at)
                if self._keeping is not None:
                    self._keeping += view[at : at + step]
                if self.tap is not None:
                    self.tap.saw(self._path, self._size - self._left, view[at : at + step])
                self._left -= step
            elif self._padding:
                step = min(self._padding, size - at)
                self._padding -= step
            else:
                step = min(BLOCK - len(self._held), size - at)
                self._held += view[at : at + step]
                if len(self._held) == BLOCK:
                    self._header(self._held, self._position + step - BLOCK)
                    self._held = b""
            at += step
            self._position += step

    def finish(self) -> None:
        """The stream has ended. Raises ArtifactCorrupt when it is cut off, or empty."""
        if not self._position:
            raise _malformed("it is empty")
        if not self._ended:
            raise _malformed("it ends too early", self._position)

    @property
    def files(self) -> int:
        """How many files the stream holds."""
        return len(self._files)

    def ranges(self) -> Iterator[tuple[str, Ranges]]:
        """Each file with the range of the stream, (offset, length) in bytes, that is a tar of this file alone, without an end."""
        for path, found in self._files.items():
            yield path, [(found[0], found[1])]

    def _header(self, header: bytes, position: int) -> None:
        if not any(header):
            self._ended = True
            return
        try:
            member = Member.parse(header)
        except ArtifactCorrupt as error:
            raise ArtifactCorrupt(f"{error.message} (at byte {position})", remedy=error.remedy) from None
        self._left, self._padding = member.size, -member.size % BLOCK
        self._keeping = None
        if member.kind != "file":
            return
        if member.path in self._files:
            raise _malformed(f"{member.path!r} comes twice", position)
        self._files[member.path] = array("Q", (position, BLOCK + self._left + self._padding))
        self._path, self._size = member.path, member.size
        if self.tap is not None and not member.size:
            self.tap.saw(member.path, 0, memoryview(b""))
        if member.path in self._keep and member.size <= _MAX_KEPT:
            self._keeping = self.kept[member.path] = bytearray()


def content(tar: bytes) -> bytes:
    """The content of the one file of which ``tar`` is the range. Raises ArtifactCorrupt."""
    member = Member.parse(tar[:BLOCK])
    if member.kind != "file" or len(tar) != BLOCK + member.size + -member.size % BLOCK:
        raise _malformed(f"{member.path!r} is cut off")
    return tar[BLOCK : BLOCK + member.size]


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _number(field: bytes) -> int:
    return int.from_bytes(field[1:]) if field[0] == 0x80 else _octal(field)


def _octal(field: bytes) -> int:
    text = field.strip(b"\0 ")
    if not all(0x30 <= digit <= 0x37 for digit in text):
        raise _malformed("a header with a number that is none")
    return int(text or b"0", 8)


def _malformed(what: str, position: int | None = None) -> ArtifactCorrupt:
    where = "" if position is None else f" (at byte {position})"
    return ArtifactCorrupt(
        f"the stream is not a whole tar: {what}{where}",
        remedy="The backup tool did not finish, or something stood between it and us; see its log and run the backup again.",
    )
