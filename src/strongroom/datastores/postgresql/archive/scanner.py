"""Reads WAL as it arrives: checks its pages and the chain of its records, and yields those that the index needs.

Nothing else proves that bytes of a replication stream are WAL of the right server, timeline and place. The CRC of records is not
computed: the server that replays them does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from strongroom.datastores.postgresql.archive.records import (
    HEADER,
    SWITCH,
    TRANSACTION,
    XLOG,
    RestorePoint,
    TransactionEnd,
    is_needed,
    parse_record,
)
from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.postgresql.files.wal import History, Unfit, is_size

_PAGE = struct.Struct("<HHIQI4x")
"""Magic, flags, timeline, address, rest of the record that the page begins with."""
_LONG = struct.Struct("<QII")
"""Follows in the first page of a file: system identifier, size of files, size of pages."""
_LENGTH = struct.Struct("<I")
_CONTINUES, _IS_LONG, _OVERWRITES = 1, 2, 8
_MAGIC = 0xD1
_MOST = 1 << 20
"""Bytes of a record that are looked at."""


class WalScanner:
    """Scans the WAL of one timeline from the beginning of a page on. Bytes may come in pieces of any size."""

    def __init__(self, position: int, size: int, system: int, history: History, *, page: int = 8192) -> None:
        if not is_size(size) or position % page:
            raise ValueError("a scan begins at the beginning of a page")
        self.position = position
        """Up to here, everything was checked: at most seven bytes less than what was fed."""
        self.last: int | None = None
        """Where the last complete record begins, as far as one was seen."""
        self._size, self._system, self._history, self._page = size, system, history, page
        self._magic = 0
        self._tail = b""
        self._header = bytearray()
        self._is_first = True
        """No page was seen yet: the first may continue a record that began before the scan."""
        self._record = bytearray()
        """The incomplete record: its header, and the rest if it is needed. Empty for one that began before the scan."""
        self._start = position
        self._length = 0
        """Of the incomplete record; 0 for one that began before the scan."""
        self._rest = 0
        """How many of its bytes are missing, with padding; 0 between records."""
        self._is_kept = False
        self._is_empty = False
        """The rest of the file is empty, after a record that switches to the next file."""

    @property
    def is_lost(self) -> bool:
        """Whether only the rest of a record was seen, which began before the scan."""
        return self._is_first or (self._rest > 0 and not self._length)

    @property
    def end(self) -> int:
        """Where a recovery of this WAL ends: at the end of the last complete record. Not if the scan ``is_lost``."""
        if self._rest:
            return find_record_end(self._start, self._size, self._page)
        if self._is_empty:
            return -(-self.position // self._size) * self._size
        return find_record_end(self.position, self._size, self._page)

    def feed(self, data: bytes | memoryview) -> Iterator[TransactionEnd | RestorePoint]:
        """Take the next bytes. The iterator has to be exhausted. Raises Unfit, RecordDamaged."""
        joined = self._tail + bytes(data) if self._tail else bytes(data)
        whole = len(joined) & ~7  # records and headers of pages are aligned
        self._tail = joined[whole:]
        view = memoryview(joined)[:whole]
        while view:
            offset = self.position % self._page
            page = self.position - offset
            header = _PAGE.size + (_LONG.size if page % self._size == 0 else 0)
            if self.position % self._size == 0:
                self._is_empty = False
            if offset < header:
                taken = min(header - offset, len(view))
                self._header += view[:taken]
                if offset + taken == header:
                    self._check_page(page)
                    self._header.clear()
            else:
                taken = min(self._page - offset, len(view))
                yield from self._walk(view[:taken], self.position)
            self.position += taken
            view = view[taken:]

    def _check_page(self, page: int) -> None:
        if self._is_empty:
            self._require_empty(self._header, page)
            return
        if self._is_first and page % self._size and not any(self._header):
            self._is_empty, self._is_first = True, False  # a switch to the next file was before the scan
            return
        magic, flags, timeline, address, rest = _PAGE.unpack_from(self._header)
        if magic >> 8 != _MAGIC or (self._magic and magic != self._magic):
            raise Unfit(f"there is no WAL at {lsn.format_lsn(page)}")
        self._magic = magic
        if address != page:
            raise Unfit(f"WAL of {lsn.format_lsn(address)} is at {lsn.format_lsn(page)}")
        if timeline != self._history.at(page):
            raise Unfit(f"the WAL at {lsn.format_lsn(page)} is of timeline {timeline}, not {self._history.at(page)}")
        if len(self._header) > _PAGE.size:
            found = _LONG.unpack_from(self._header, _PAGE.size)
            if not flags & _IS_LONG or found != (self._system, self._size, self._page):
                raise Unfit(
                    f"the WAL at {lsn.format_lsn(page)} is of another server: system {found[0]}, files of {found[1]} bytes"
                )
        continued = _align(rest) if flags & _CONTINUES else 0
        if flags & _OVERWRITES:  # the server crashed within the record, and continues without it
            self._length = self._rest = 0
        elif self._is_first:
            self._rest = continued
        elif continued != self._rest:
            raise Unfit(f"the WAL at {lsn.format_lsn(page)} does not continue the record at {lsn.format_lsn(self._start)}")
        self._is_first = False

    def _require_empty(self, data: bytes | bytearray | memoryview, position: int) -> None:
        if any(data):
            raise Unfit(f"there is WAL at {lsn.format_lsn(position)}, after a switch to the next file")

    def _walk(self, view: memoryview, base: int) -> Iterator[TransactionEnd | RestorePoint]:
        """The records of a piece of one page, without its header."""
        at, size = 0, len(view)
        while at < size:
            if self._rest:
                taken = min(self._rest, size - at)
                self._collect(view[at : at + taken])
                self._rest -= taken
                at += taken
                if self._rest == 0 and self._length:
                    yield from self._finish(base + at)
                continue
            if self._is_empty:
                self._require_empty(view[at:], base + at)
                return
            if size - at >= HEADER.size:
                length, _, previous, _, manager, _ = HEADER.unpack_from(view, at)
                end = at + _align(length)
                if length >= HEADER.size and end <= size and manager > TRANSACTION and previous == self.last:
                    self.last = base + at  # most records
                    at = end
                    continue
            (length,) = _LENGTH.unpack_from(view, at)
            if length < HEADER.size:
                raise Unfit(f"there is no record at {lsn.format_lsn(base + at)}")
            self._record.clear()
            self._start, self._length, self._rest = base + at, length, _align(length)

    def _collect(self, piece: memoryview) -> None:
        if not self._length:
            return
        if len(self._record) < HEADER.size:
            self._record += piece
            if len(self._record) >= HEADER.size:
                *_, info, manager, _ = HEADER.unpack_from(self._record)
                self._is_kept = is_needed(manager, info)
        elif self._is_kept and len(self._record) < _MOST:
            self._record += piece

    def _finish(self, end: int) -> Iterator[TransactionEnd | RestorePoint]:
        _, _, previous, info, manager, _ = HEADER.unpack_from(self._record)
        if self.last is not None and previous != self.last:
            raise Unfit(
                f"the record at {lsn.format_lsn(self._start)} follows one at {lsn.format_lsn(previous)}, "
                f"not the one at {lsn.format_lsn(self.last)}"
            )
        self.last = self._start
        length, self._length = self._length, 0
        if self._is_kept:
            yield parse_record(self._record[:length], self._start, end)
        elif (manager, info & 0xF0) == (XLOG, SWITCH):
            self._is_empty = end % self._size != 0


def find_record_end(position: int, size: int, page: int = 8192) -> int:
    """Where the record before ``position`` ends, if the next one begins there: the header of a page may be between them."""
    offset = position % page
    header = _PAGE.size + (_LONG.size if (position - offset) % size == 0 else 0)
    return position - offset if offset <= header else position


def _align(length: int) -> int:
    return (length + 7) & ~7
