"""Checks the pages of a backup while they are compressed, so that damage is known when the backup is taken."""

from __future__ import annotations

import re
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from strongroom.artifact import DamagedPage, Pages
from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.postgresql.files.page_sizes import PAGE, PAGES_PER_FILE
from strongroom.datastores.postgresql.files.pages import Words, find_first_block, find_wrong_pages, read_position

MOST_NAMED = 1000
_PAUSES = (0.0, 0.02, 0.2)
"""Seconds to wait before each new read of a page that looks damaged."""
_SMALL = 128
"""Below this number of pages, the overhead of a call takes longer than its arithmetic."""
_HEADER = struct.Struct("<III")
_MAGIC = 0xD3AE1F0D
_LABEL = "backup_label"


@dataclass(slots=True)
class _Run:
    """Pages of one file."""

    path: str
    blocks: Words
    data: memoryview | bytes


class _File:
    """The file that is being read: splits its data into whole pages."""

    def __init__(self, path: str, first: int) -> None:
        self.path = path
        self._next = first
        self._blocks: Words | None = None
        self._head: bytes | None = b"" if path.rpartition("/")[2].startswith("INCREMENTAL.") else None
        self._rest = b""

    def cut(self, data: memoryview) -> list[_Run]:
        """The pages that this data completes."""
        if self._head is not None:
            data = self._header(data)
        runs: list[_Run] = []
        if self._rest:
            need = PAGE - len(self._rest)
            self._rest, data = self._rest + data[:need], data[need:]
            if len(self._rest) < PAGE:
                return runs
            runs.append(self._run(self._rest))
        whole = len(data) // PAGE * PAGE
        if whole:
            runs.append(self._run(data[:whole]))
        self._rest = bytes(data[whole:])
        return runs

    def _run(self, data: memoryview | bytes) -> _Run:
        begin, self._next = self._next, self._next + len(data) // PAGE
        if self._blocks is None:
            return _Run(self.path, np.arange(begin, self._next, dtype=np.uint32), data)
        blocks = self._blocks[begin : self._next]
        return _Run(self.path, blocks, data[: len(blocks) * PAGE])

    def _header(self, data: memoryview) -> memoryview:
        """Read the header of an incremental file: the numbers of its blocks, which follow. Returns the rest of ``data``."""
        assert self._head is not None
        had = len(self._head)
        head = self._head + bytes(data[: max(0, _HEADER.size - had)])
        self._head = head
        if len(head) < _HEADER.size:
            return data[len(data) :]
        magic, count, _ = _HEADER.unpack_from(head)
        count = count if magic == _MAGIC and count <= PAGES_PER_FILE else 0  # a damaged header is reported by the restore
        size = _HEADER.size + 4 * count
        size += -size % PAGE if count else 0
        self._head = head + bytes(data[len(head) - had : max(0, size - had)])
        if len(self._head) < size:
            return data[len(data) :]
        self._blocks = np.frombuffer(self._head, "<u4", count, _HEADER.size) + np.uint32(self._next)
        self._next, self._head = 0, None
        return data[size - had :]


class PageInspection:
    """See the Protocol. A page that looks damaged is read again from ``data_dir``, since the server may have been writing it.

    Such a page is complete a moment later and was changed after the backup began, so the replay of the WAL writes it again. If
    the page is still wrong, it is damaged on disk. If it is now correct but was last changed before the backup, it was damaged
    while it was read.
    """

    def __init__(self, data_dir: Path, start: str | None = None) -> None:
        """``start``: the WAL position where the backup begins, if it is known before ``backup_label`` is read."""
        self._data_dir = data_dir
        self._begins = None if start is None else lsn.parse_lsn(start)
        self._label = b""
        self._file: _File | None = None
        self._runs: list[_Run] = []
        self._lock = threading.Lock()
        self._checked = 0
        self._damaged: set[tuple[str, int]] = set()

    def saw(self, path: str, offset: int, data: memoryview) -> None:
        """Receive the next piece of a file."""
        if offset == 0:
            first = find_first_block(path)
            self._file = None if first is None else _File(path, first)
        if self._file is not None:
            self._runs += self._file.cut(data)
        elif path == _LABEL:
            self._label += data

    def take(self) -> Callable[[], None] | None:
        """A function that checks the pages received since the last call; none if there were no pages."""
        runs, self._runs = self._runs, []
        return partial(self._check, runs) if runs else None

    def pages(self) -> Pages:
        """The result of all checks."""
        named = [DamagedPage(path=path, block=block) for path, block in sorted(self._damaged)[:MOST_NAMED]]
        return Pages(checked=self._checked, damaged=len(self._damaged), named=named)

    # --- in the threads that compress

    def _check(self, runs: list[_Run]) -> None:
        small = [run for run in runs if len(run.blocks) < _SMALL]
        for run in runs:
            if len(run.blocks) >= _SMALL:
                self._judge([run], run.data, run.blocks)
        if small:  # many small files are checked together as fast as one large file
            self._judge(small, b"".join(run.data for run in small), np.concatenate([run.blocks for run in small]))

    def _judge(self, runs: list[_Run], data: memoryview | bytes, blocks: Words) -> None:
        ends = np.cumsum([len(run.blocks) for run in runs])
        damaged = set()
        for n in find_wrong_pages(data, blocks):
            run, block = runs[int(np.searchsorted(ends, n, side="right"))], int(blocks[n])
            path = run.path.replace("INCREMENTAL.", "")
            if self._is_damaged(path, block):
                damaged.add((path, block))
        with self._lock:
            self._checked += len(blocks)
            self._damaged |= damaged

    def _is_damaged(self, path: str, block: int) -> bool:
        for pause in _PAUSES if len(self._damaged) < MOST_NAMED else _PAUSES[:1]:
            time.sleep(pause)
            again = self._read(path, block)
            if len(again) < PAGE:
                return False  # dropped or truncated meanwhile; the replay does that, too
            if not find_wrong_pages(again, np.array([block], np.uint32)):
                return any(again) and read_position(again) < self._start()
        return True

    def _read(self, path: str, block: int) -> bytes:
        try:
            with (self._data_dir / path).open("rb") as file:
                file.seek(block % PAGES_PER_FILE * PAGE)
                return file.read(PAGE)
        except FileNotFoundError:
            return b""

    def _start(self) -> int:
        if self._begins is not None:
            return self._begins
        found = re.search(rf"^START WAL LOCATION: ({lsn.PATTERN}) ".encode(), self._label, re.MULTILINE)
        return lsn.parse_lsn(found[1].decode()) if found else 0
