"""Writes the files of a restore: pieces side by side, a bounded number at a time, and sent to the disk meanwhile."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

from strongroom.system.direct import BLOCK, Output

_PIECE = 4 << 20
_AHEAD = 32 << 20
"""Bytes on their way. Pieces keep the segments alive that they are part of."""


class Writer:
    """New files, from one thread: ``open`` one, ``write`` to it, ``close`` it. At the end of the context all is written.

    With ``durable`` they are on the disk at once, as far as can be, so that the sync at the end, which stays necessary, finds
    little to do. Any call may raise the OSError of an earlier one.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self.durable = durable
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)) + 1, thread_name_prefix="write")
        self._queue: deque[tuple[Future[None], int]] = deque()
        self._ahead = 0
        self._files: set[File] = set()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.drain()
        finally:
            self._pool.shutdown(cancel_futures=True)
            for file in self._files:
                file.abandon()

    def open(self, path: Path, *, replace: bool = False) -> File:
        """A new file (0600). Raises FileExistsError unless ``replace``; a link in its place is not followed."""
        fd = os.open(path, _FLAGS | (os.O_TRUNC if replace else os.O_EXCL), 0o600)
        file = File(self, Output(fd, cached=not self.durable))
        self._files.add(file)
        return file

    def drain(self) -> None:
        """Wait until all is done that was asked for."""
        while self._queue:
            self._take()

    def begin(self, size: int, task: Callable[[], None]) -> Future[None]:
        """Have a task done in a thread when there is room for its ``size`` bytes; they begin in the order in which they came."""
        while self._queue and self._ahead + size > _AHEAD:
            self._take()
        future = self._pool.submit(task)
        self._queue.append((future, size))
        self._ahead += size
        return future

    def _take(self) -> None:
        future, size = self._queue.popleft()
        self._ahead -= size
        future.result()


_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class File:
    """One file of a Writer."""

    def __init__(self, writer: Writer, output: Output) -> None:
        self._writer = writer
        self._output = output
        self._begun: list[Future[None]] = []

    def write(self, offset: int, data: memoryview) -> None:
        """Put ``data`` there; it must stay as it is until the end of the context."""
        start = 0
        while start < len(data):
            end = start + _PIECE - (offset + start) % BLOCK
            self._put(offset + start, data[start:end])
            start = end

    def close(self, size: int | None = None) -> None:
        """No more will be written. ``size`` is its length when it does not end where the last byte was written."""
        begun, self._begun = self._begun, []

        def finish() -> None:
            for future in begun:  # all of them have begun before this did
                future.result()
            if size is not None:
                os.ftruncate(self._output.fileno(), size)
            self._output.close()

        self._writer.begin(0, finish)

    def abandon(self) -> None:
        """Close it, once."""
        self._output.close()

    def _put(self, offset: int, data: memoryview) -> None:
        self._begun = [future for future in self._begun if not future.done() or future.exception()]
        self._begun.append(self._writer.begin(len(data), lambda: self._output.write(offset, data)))
