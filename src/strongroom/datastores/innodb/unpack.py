"""Unpacks an mbstream in this process. The program mbstream copies every byte twice more, and exits with 0 after errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from strongroom.artifact import Mbstream
from strongroom.datastores.toolkit.writer import File, Writer
from strongroom.errors import ArtifactCorrupt

_FLAGS_AT = 54
"""Offset of a tablespace's flags in its first page: after 38 bytes of the page's header and 16 bytes of the tablespace's."""


class Unpack(Mbstream):
    """Writes the files of the stream below ``directory``, which is empty. See ``Mbstream`` for what it refuses."""

    def __init__(self, directory: Path, writer: Writer) -> None:
        super().__init__()
        self._directory = directory
        self._writer = writer
        self._written: dict[str, File] = {}
        self._pages: dict[str, int] = {}
        self._sizes: dict[str, int] = {}

    def begin(self, path: str, *, again: bool) -> None:
        target = self._directory / path
        if again:
            self._writer.drain()
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._written[path] = self._writer.open(target, replace=again)
        except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
            raise ArtifactCorrupt(f"the stream has {path!r} in a wrong place: {error.strerror}") from error

    def piece(self, path: str, offset: int, data: memoryview) -> None:
        if offset == 0 and path.endswith(".ibd"):
            page = _sparse_page(data)
            if page:
                self._pages[path] = page
        if path not in self._pages:
            self._written[path].write(offset, data)
            return
        self._sizes[path] = offset + len(data)
        for at, part in _filled(offset, data, self._pages[path]):
            self._written[path].write(at, part)

    def end(self, path: str) -> None:
        self._pages.pop(path, None)
        self._written.pop(path).close(self._sizes.pop(path, None))

    def rename(self, old: str, new: str) -> None:
        self._writer.drain()
        with suppress(FileNotFoundError):
            (self._directory / new).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._directory / old).replace(self._directory / new)

    def remove(self, path: str) -> None:
        if path.endswith("*"):
            return  # mbstream compares one byte too many and removes nothing (10.11); an extra file is better than a missing one
        self._writer.drain()
        target = self._directory / path
        if target.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


def _sparse_page(data: memoryview) -> int:
    """Size of a page if the tablespace is page-compressed, else 0. Such pages end in holes, without which it would fill the disk.

    ``fil_space_t::is_compressed`` of the server: two formats of the flags, told apart by bit 4.
    """
    if len(data) < _FLAGS_AT + 4:
        return 0
    flags = int.from_bytes(data[_FLAGS_AT : _FLAGS_AT + 4], "big")
    if flags & 0x10:
        compressed, size = flags >> 5 & 0x7, flags & 0xF
    else:
        compressed, size = flags >> 16 & 0x1, flags >> 6 & 0xF
    return 512 << (size or 5) if compressed else 0


def _filled(offset: int, data: memoryview, page: int) -> Iterator[tuple[int, memoryview]]:
    """The part of each page before the zeros at its end, with its offset in the file."""
    start = 0
    while start < len(data):
        stop = min(len(data), start + page - (offset + start) % page)
        length = len(bytes(data[start:stop]).rstrip(b"\0"))
        if length:
            yield offset + start, data[start : start + length]
        start = stop
