"""The stream of a copy: a tar that is built while the copy arrives, so that nothing has to be stored on a disk.

Files are members in the order of arrival, each with its announced size. Later data (pages that changed meanwhile, the header of
the redo log) is in members ``strongroom/pages/…``: records to be written over the files, in order. ``docs`` contains a script
that restores such a tar without Strongroom.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Protocol

from strongroom.datastores.mysql.backup.clone import Block
from strongroom.datastores.toolkit.feed import write_all
from strongroom.datastores.toolkit.tar import BLOCK, make_header

TOP = "strongroom"
PAGES = f"{TOP}/pages"
NAMES = f"{TOP}/names"
FACTS = f"{TOP}/clone.json"
RECORD = struct.Struct(">QIH")
"""Before each record: offset in the file, bytes, bytes of the path of the member. Then that path, then the bytes."""
_PAGES_BYTES = 8 << 20
"""Bytes of records that are kept in memory until they become a member."""
_ZEROS = memoryview(bytes(1 << 20))


class Source(Protocol):
    """A source of the bytes of a block."""

    def take(self, length: int) -> bytes:
        """All bytes."""

    def pour(self, length: int, out: int) -> None:
        """Write all bytes into a pipe."""


class Archive:
    """Writes the tar into the pipe ``out``. One file is open at a time: ``open`` it, then ``put`` its blocks."""

    def __init__(self, out: int) -> None:
        self.names: dict[str, str] = {}
        """Paths of members whose own path would be too long, by that of the member."""
        self._out = out
        self._path: str | None = None
        self._size = 0
        self._at = 0
        self._pages = bytearray()
        self._pages_written = 0
        self._seen: dict[str, str] = {}

    def directory(self, path: str) -> None:
        """Write an empty directory."""
        write_all(self._out, make_header(path, 0, directory=True))

    def file(self, path: str, data: bytes | bytearray) -> None:
        """Write a small file."""
        self.close()
        self._header(path, len(data))
        write_all(self._out, memoryview(data))
        write_all(self._out, bytes(-len(data) % BLOCK))

    def open(self, path: str, size: int) -> None:
        """Begin a file whose blocks follow. The previous one is closed."""
        self.close()
        if len(self._pages) >= _PAGES_BYTES:
            self._flush()
        self._header(path, size)
        self._path, self._size, self._at = path, size, 0

    def seen(self, path: str) -> bool:
        """Whether the file is in the stream."""
        return path in self._seen

    def put(self, path: str, block: Block, source: Source) -> None:
        """Write a block of a file: in its place if the file is open and has reached it, else as a record."""
        if path == self._path and self._at <= block.offset and block.offset + block.length <= self._size:
            self._fill(block.offset)
            source.pour(block.length, self._out)
            self._at += block.length
            return
        name = self._seen[path].encode(errors="surrogateescape")
        self._pages += RECORD.pack(block.offset, block.length, len(name)) + name
        self._pages += source.take(block.length)
        if self._path is None and len(self._pages) >= _PAGES_BYTES:
            self._flush()

    def close(self) -> None:
        """Close the file: it has no more blocks."""
        if self._path is not None:
            self._fill(self._size)
            write_all(self._out, bytes(-self._size % BLOCK))
            self._path = None

    def end(self, facts: dict[str, Any]) -> None:
        """Write the remaining records, the facts, and the end."""
        self.close()
        self._flush()
        self.file(FACTS, json.dumps(facts | {"names": self.names}, indent=1).encode())
        write_all(self._out, bytes(2 * BLOCK))

    def _header(self, path: str, size: int) -> None:
        name = path
        try:
            made = make_header(path, size)
        except ValueError:
            name = f"{NAMES}/{len(self.names)}"
            self.names[name] = path
            made = make_header(name, size)
        self._seen[path] = name
        write_all(self._out, made)

    def _fill(self, until: int) -> None:
        while self._at < until:
            piece = _ZEROS[: until - self._at]
            write_all(self._out, piece)
            self._at += len(piece)

    def _flush(self) -> None:
        if self._pages:
            data, self._pages = self._pages, bytearray()
            self.file(f"{PAGES}/{self._pages_written:08}", data)
            self._pages_written += 1
