"""The stream of a copy: a tar that is built as the copy arrives, so that nothing of it has to be kept on a disk.

Files come in their order, each with the size that was announced. What comes too late for that (pages that changed meanwhile, the
header of the redo log) is in members ``strongroom/pages/…``, records to be written over the files in their order. ``docs`` show a
script that restores such a tar with nothing of ours.
"""

from __future__ import annotations

import json
import struct
from typing import Any, Protocol

from strongroom.datastores.mysql.backup.clone import Block
from strongroom.datastores.toolkit.feed import write_all
from strongroom.datastores.toolkit.tar import BLOCK, header

OURS = "strongroom"
PAGES = f"{OURS}/pages"
NAMES = f"{OURS}/names"
FACTS = f"{OURS}/clone.json"
RECORD = struct.Struct(">QIH")
"""Before each record: offset in the file, bytes, bytes of the path of the member. Then that path, then the bytes."""
_PAGES_BYTES = 8 << 20
"""Bytes of records that are held in memory until they make a member."""
_ZEROS = memoryview(bytes(1 << 20))


class Source(Protocol):
    """Who has the bytes of a block."""

    def take(self, length: int) -> bytes:
        """All of them."""

    def pour(self, length: int, out: int) -> None:
        """The same, into a pipe."""


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
        """An empty directory."""
        write_all(self._out, header(path, 0, directory=True))

    def file(self, path: str, data: bytes | bytearray) -> None:
        """A small file."""
        self.close()
        self._header(path, len(data))
        write_all(self._out, memoryview(data))
        write_all(self._out, bytes(-len(data) % BLOCK))

    def open(self, path: str, size: int) -> None:
        """A file whose blocks follow. The one before is closed."""
        self.close()
        if len(self._pages) >= _PAGES_BYTES:
            self._flush()
        self._header(path, size)
        self._path, self._size, self._at = path, size, 0

    def seen(self, path: str) -> bool:
        """Whether it is in the stream."""
        return path in self._seen

    def put(self, path: str, block: Block, source: Source) -> None:
        """A block of a file: where it belongs when the file is open and has come that far, else as a record."""
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
        """No more blocks of the file will come."""
        if self._path is not None:
            self._fill(self._size)
            write_all(self._out, bytes(-self._size % BLOCK))
            self._path = None

    def end(self, facts: dict[str, Any]) -> None:
        """The rest of the records, the facts, the end."""
        self.close()
        self._flush()
        self.file(FACTS, json.dumps(facts | {"names": self.names}, indent=1).encode())
        write_all(self._out, bytes(2 * BLOCK))

    def _header(self, path: str, size: int) -> None:
        name = path
        try:
            made = header(path, size)
        except ValueError:
            name = f"{NAMES}/{len(self.names)}"
            self.names[name] = path
            made = header(name, size)
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
