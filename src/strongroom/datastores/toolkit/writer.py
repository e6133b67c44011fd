"""Writes the files of a restore: several pieces in parallel, with a bounded number in memory, and straight to the disk."""

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
"""Limit of bytes that wait to be written. Each piece keeps its whole segment in memory."""


class Writer:
    """Writes new files, for one thread: ``open``, ``write``, ``close``. At the end of the context everything is written.

    With ``durable`` data goes to the disk immediately if possible, so that the sync at the end, which is still necessary, is
    short. Any call may raise the OSError of an earlier one.
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
        """Create a file (0600). Raises FileExistsError unless ``replace``; a link of this name is not followed."""
        fd = os.open(path, _FLAGS | (os.O_TRUNC if replace else os.O_EXCL), 0o600)
        file = File(self, Output(fd, cached=not self.durable))
        self._files.add(file)
        return file

    def drain(self) -> None:
        """Wait until all tasks are done."""
        while self._queue:
            self._take()

    def begin(self, size: int, task: Callable[[], None]) -> Future[None]:
        """Run a task in a thread as soon as the limit allows its ``size`` bytes. Tasks begin in the order of the calls."""
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
        """Write ``data``, which must not change until the end of the context."""
        start = 0
        while start < len(data):
            end = start + _PIECE - (offset + start) % BLOCK
            self._put(offset + start, data[start:end])
            start = end

    def close(self, size: int | None = None) -> None:
        """Close the file. ``size`` is its length if it does not end with the last byte that was written."""
        begun, self._begun = self._begun, []

        def finish() -> None:
            for future in begun:  # all of them began before this task
                future.result()
            if size is not None:
                os.ftruncate(self._output.fileno(), size)
            self._output.close()

        self._writer.begin(0, finish)

    def abandon(self) -> None:
        """Close it without waiting."""
        self._output.close()

    def _put(self, offset: int, data: memoryview) -> None:
        self._begun = [future for future in self._begun if not future.done() or future.exception()]
        self._begun.append(self._writer.begin(len(data), lambda: self._output.write(offset, data)))
