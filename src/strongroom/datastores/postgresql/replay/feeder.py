"""Makes WAL files from archived segments ahead of the server that replays them: exactly up to the end, with zeroes after it."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from strongroom.archive import LogSegment
from strongroom.datastores.postgresql.files.lsn import format_lsn, parse_lsn
from strongroom.datastores.postgresql.replay.pieces import REMEDY, WalPiece, read_segment
from strongroom.errors import ArtifactCorrupt, JobError

AHEAD = 128 * 1024**2
"""Bytes of WAL that are fetched before the server asks for them."""
_THREADS = 3
_COPY = 1024**2


@dataclass(slots=True)
class _File:
    path: Path
    missing: int
    """Bytes that are not written yet."""


class Feeder:
    """Writes files into ``folder``. ``take`` is called by one thread, which hands each file to the server.

    ``backup`` is the file of the backup in which ``start`` is, if there is one: it has the bytes before the archived ones. Where
    both have them, they must agree.
    """

    def __init__(self, pieces: Sequence[WalPiece], start: int, end: int, folder: Path, backup: Path | None) -> None:
        self._pieces, self._start, self._end, self._folder = pieces, start, end, folder
        self._size = pieces[-1].details.file_size
        self.first = start // self._size
        """Number of the first file."""
        self._backup = os.open(backup, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC) if backup is not None else None
        self._files: dict[int, _File] = {}
        self._times: deque[tuple[int, int]] = deque()
        self._wanted = start
        """The server has got everything before."""
        self._error: BaseException | None = None
        self._stopped = self._is_over = False
        self._changed = threading.Condition()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="wal-files")
        self._thread = threading.Thread(target=self._run, name="wal-feeder", daemon=True)

    def begin(self) -> None:
        """Start to fetch."""
        self._thread.start()

    def take(self, number: int) -> Path:
        """Wait for a file; the caller moves it away. Raises what prevents that it is made."""
        with self._changed:
            self._wanted = max(self._wanted, number * self._size)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._error or self._stopped or self._is_complete(number) or self._is_absent(number))
            if self._error is not None:
                raise self._error
            if self._is_absent(number):
                raise ArtifactCorrupt(f"WAL at {format_lsn(number * self._size)} is not in the log", remedy=REMEDY)
            if self._stopped:
                raise JobError("the replay of the log has ended")
            return self._files.pop(number).path

    def find_time(self, position: int) -> int | None:
        """The highest time of a transaction in the last segments before ``position``, which only grows; None if unknown."""
        found = None
        while self._times and self._times[0][0] <= position:
            found = self._times.popleft()[1]
        return found

    def close(self) -> None:
        """End all threads."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        self._pool.shutdown(cancel_futures=True)
        if self._backup is not None:
            os.close(self._backup)
            self._backup = None

    def _is_complete(self, number: int) -> bool:
        return number in self._files and not self._files[number].missing

    def _is_absent(self, number: int) -> bool:
        return self._is_over and number not in self._files

    # --- the thread that goes through the log

    def _run(self) -> None:
        try:
            self._fetch_all()
            with self._changed:
                self._is_over = True
                self._changed.notify_all()
        except BaseException as error:  # noqa: BLE001 - raised again by ``take``
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def _fetch_all(self) -> None:
        low = self.first * self._size
        for piece in self._pieces:
            last = piece is self._pieces[-1]
            high = self._end if last else piece.high // self._size * self._size  # the next one contains the file of the seam
            if low < high:
                self._fetch(piece, low, high)
                low = high

    def _fetch(self, piece: WalPiece, low: int, high: int) -> None:
        at: int | None = None
        for segment in piece.segments():
            begin, end = parse_lsn(segment.begin), parse_lsn(segment.end)
            if end <= low:
                continue
            if begin >= high:
                break
            if at is None:
                self._prepare_first(piece, low, begin)
            at = end
            if not self._await(begin):
                return
            for number in range(max(begin, low) // self._size, (min(end, high) - 1) // self._size + 1):
                self._create(piece, number)
            self._pool.submit(self._write, piece, segment, max(begin, low), min(end, high))
            if segment.last_time is not None:
                self._times.append((end, segment.last_time))
        if at is None:
            self._prepare_first(piece, low, high)
        if max(at or 0, self._start) < high:
            raise ArtifactCorrupt(
                f"series {piece.number} of the log ends at {format_lsn(at or low)}, not at {format_lsn(high)}", remedy=REMEDY
            )

    def _await(self, position: int) -> bool:
        """Wait until the server needs soon what begins at ``position``; False if it does not any more."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._error is not None or position < self._wanted + AHEAD)
            return not self._stopped and self._error is None

    def _prepare_first(self, piece: WalPiece, low: int, begin: int) -> None:
        """Take what is before the first archived byte from the backup."""
        if begin <= low:
            return
        if low != self.first * self._size or begin > self._start or self._backup is None:
            raise ArtifactCorrupt(
                f"WAL from {format_lsn(max(low, self._start))} to {format_lsn(begin)} is neither in the backup nor in the log",
                remedy=REMEDY,
            )
        self._create(piece, self.first)
        file = self._files[self.first]
        with file.path.open("r+b", buffering=0) as target:
            for offset in range(0, begin - low, _COPY):
                target.write(os.pread(self._backup, min(_COPY, begin - low - offset), offset))
        self._count(self.first, begin - low)

    def _create(self, piece: WalPiece, number: int) -> None:
        """A file of zeroes."""
        if number in self._files:
            return
        begin = number * self._size
        path = self._folder / f"{number:016X}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.ftruncate(descriptor, self._size)
        os.close(descriptor)
        with self._changed:
            self._files[number] = _File(path, min(self._end, begin + self._size) - begin)

    def _count(self, number: int, written: int) -> None:
        with self._changed:
            self._files[number].missing -= written
            self._changed.notify_all()

    # --- the threads that read segments

    def _write(self, piece: WalPiece, segment: LogSegment, low: int, high: int) -> None:
        try:
            if self._stopped or self._error is not None:
                return
            begin, raw = parse_lsn(segment.begin), memoryview(read_segment(piece, segment))
            self._compare(raw, begin, low, high)
            for number in range(low // self._size, (high - 1) // self._size + 1):
                first, stop = max(low, number * self._size), min(high, (number + 1) * self._size)
                with self._files[number].path.open("r+b", buffering=0) as file:
                    file.seek(first - number * self._size)
                    data = raw[first - begin : stop - begin]
                    while data:
                        data = data[file.write(data) :]
                self._count(number, stop - first)
        except BaseException as error:  # noqa: BLE001 - raised again by ``take``
            self._fail(error)

    def _compare(self, raw: memoryview, begin: int, low: int, high: int) -> None:
        """Raise ArtifactCorrupt unless the backup has the same bytes before ``start``."""
        stop = min(high, self._start)
        if self._backup is None or low >= stop:
            return
        data = os.pread(self._backup, stop - low, low - self.first * self._size)
        if data != raw[low - begin : stop - begin]:
            raise ArtifactCorrupt(
                f"the WAL of the backup before {format_lsn(stop)} is not the archived one",
                remedy="The log is of another history than the backup: restore from a backup that was taken after it began.",
            )
