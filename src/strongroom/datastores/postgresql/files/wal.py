"""WAL files: their names on each timeline, and the verification that a file contains the WAL that its name denotes."""

from __future__ import annotations

import os
import re
import struct
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from strongroom.datastores.postgresql.files import lsn

NAME = re.compile(r"[0-9A-F]{24}")
HISTORY = re.compile(r"[0-9A-F]{8}\.history")
_PIECE = 1 << 20
_SHORT, _LONG = struct.Struct("<HHIQI"), struct.Struct("<QII")
"""Page header: magic, flags, timeline, address, remaining bytes of a record. First page also: system, file size, page size."""
_HEADER, _LONG_HEADER = 24, 40
_CONTINUES, _IS_LONG = 1, 2
_RECORD = struct.Struct("<IIQBB")
"""Beginning of a record: length, transaction, previous record, kind, resource manager."""
_RECORD_HEADER = 24
_SWITCH = (0x40, 0)


class Unfit(Exception):
    """The file does not contain the expected WAL; the text is the reason."""


class Recycled(Unfit):
    """It contains WAL of another position: the server has reused the file."""


def is_size(size: int) -> bool:
    """Whether WAL files can have this size: a power of two between 1 MiB and 1 GiB."""
    return 1 << 20 <= size <= 1 << 30 and size & (size - 1) == 0


def find_file_size(folder: Path) -> int | None:
    """Size of the WAL files in a directory; none if it contains no complete one."""
    with suppress(OSError):
        size = max((path.stat().st_size for path in folder.iterdir() if NAME.fullmatch(path.name)), default=0)
        return size if is_size(size) else None
    return None


@dataclass(frozen=True, slots=True)
class History:
    """Maps positions to timelines: the current one, and its ancestors, each with its end, oldest first."""

    current: int
    ancestors: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, current: int, text: str) -> History:
        """Parse a history file. Raises Unfit."""
        found = []
        for line in text.splitlines():
            if line.strip() and not line.lstrip().startswith("#"):
                match = re.match(rf"\s*(\d{{1,10}})\s+({lsn.PATTERN})(\s|$)", line)
                if match is None:
                    raise Unfit(f"the history of timeline {current} cannot be read")
                found.append((int(match[1]), lsn.parse_lsn(match[2])))
        if [timeline for timeline, _ in found] != sorted({timeline for timeline, _ in found} - {current}):
            raise Unfit(f"the history of timeline {current} is out of order")
        return cls(current, tuple(found))

    def at(self, position: int) -> int:
        """The timeline of the byte at ``position``."""
        return next((timeline for timeline, left in self.ancestors if position < left), self.current)

    def left(self, timeline: int) -> int | None:
        """The end of ``timeline``; none if it is the current one. Raises Unfit if it is no ancestor."""
        if timeline == self.current:
            return None
        for ancestor, left in self.ancestors:
            if ancestor == timeline:
                return left
        raise Unfit(f"timeline {self.current} does not come from timeline {timeline}")

    def files(self, start: int, stop: int, size: int) -> list[str]:
        """Names of the files of ``size`` bytes from ``start`` to before ``stop``; of two timelines, the later one's file."""
        numbers = range(start // size, (stop - 1) // size + 1)
        return [lsn.list_segments(self.at((n + 1) * size - 1), n * size, n * size + 1, size)[0] for n in numbers]


def history_file(timeline: int) -> str:
    """The name of the file with the ancestors of a timeline; the first timeline has none."""
    return f"{timeline:08X}.history"


def verify_content(fd: int, name: str, size: int, system: int, history: History) -> Iterator[bytes]:
    """The content of an open WAL file, in pieces, each verified. Raises Unfit.

    Every page must belong to this system, position and timeline; an unused part must follow a record that switches to the next
    file. The content of records is not checked.
    """
    proof = _Proof(name, size, system, history)
    for offset in range(0, size, _PIECE):
        piece = os.pread(fd, _PIECE, offset)
        if len(piece) != min(_PIECE, size - offset):
            raise Unfit(f"WAL file {name} is cut short")
        proof.feed(piece)
        yield piece
    if os.pread(fd, 1, size):
        raise Unfit(f"WAL file {name} is longer than {size} bytes")
    proof.finish()


class _Proof:
    def __init__(self, name: str, size: int, system: int, history: History) -> None:
        self._name = name
        self._size, self._system, self._history = size, system, history
        self._address = find_address(name, size)
        self._page = 0
        """Page size in bytes; unknown before the first page."""
        self._magic = 0
        self._last: deque[memoryview] = deque(maxlen=2)
        self._empty = False

    def feed(self, piece: bytes) -> None:
        if not self._page:
            self._page = self._first(piece)
        view = memoryview(piece)
        for start in range(0, len(piece), self._page):
            page = view[start : start + self._page]
            if self._empty or not any(page[:_HEADER]):
                if page != bytes(len(page)):
                    raise Unfit(f"WAL file {self._name} has a hole before {lsn.format_lsn(self._address)}")
                self._empty = True
            else:
                self._check(page)
                self._last.append(page)
            self._address += len(page)

    def _first(self, piece: bytes) -> int:
        magic, flags, *_ = _SHORT.unpack_from(piece)
        system, size, page = _LONG.unpack_from(piece, _HEADER)
        if not flags & _IS_LONG or magic >> 8 != 0xD1 or not 1024 <= page <= 65536 or page & (page - 1):
            raise Unfit(f"WAL file {self._name} does not begin as one")
        if (system, size) != (self._system, self._size):
            raise Unfit(
                f"WAL file {self._name} is of system {system} with files of {size} bytes, not {self._system}, {self._size}"
            )
        self._magic = magic
        return int(page)

    def _check(self, page: memoryview) -> None:
        magic, _, timeline, address, _ = _SHORT.unpack_from(page)
        if address != self._address:
            raise Recycled(
                f"WAL file {self._name} holds {lsn.format_lsn(address)} where {lsn.format_lsn(self._address)} should be"
            )
        if magic != self._magic:
            raise Unfit(f"WAL file {self._name} is damaged at {lsn.format_lsn(address)}")
        if timeline != self._history.at(address):
            raise Unfit(
                f"WAL file {self._name} is of timeline {timeline} at {lsn.format_lsn(address)}, "
                f"not of {self._history.at(address)}"
            )

    def finish(self) -> None:
        if self._empty and not any(self._switches(list(self._last)[n:]) for n in (-1, -2)):
            raise Unfit(f"WAL file {self._name} ends before its end")

    def _switches(self, pages: list[memoryview]) -> bool:
        """Whether the records that begin on these pages (the last used ones) end with a switch to the next file."""
        _, flags, _, _, rest = _SHORT.unpack_from(pages[0])
        records = b"".join(page[_LONG_HEADER if _SHORT.unpack_from(page)[1] & _IS_LONG else _HEADER :] for page in pages)
        position = _align(rest) if flags & _CONTINUES else 0
        while position + _RECORD_HEADER <= len(records):
            length, _, _, info, manager = _RECORD.unpack_from(records, position)
            if length < _RECORD_HEADER:
                return False
            position += _align(length)
            if (info & 0xF0, manager) == _SWITCH:
                return not any(records[position:])
        return False


def _align(length: int) -> int:
    return (length + 7) & ~7


def find_address(name: str, size: int) -> int:
    """The WAL position where a file begins."""
    return (int(name[8:16], 16) << 32) + int(name[16:], 16) * size
