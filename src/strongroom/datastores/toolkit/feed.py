"""Streams that Strongroom writes itself: a thread writes into a pipe, and the other end is read like that of a tool."""

from __future__ import annotations

import fcntl
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from strongroom.datastores.protocol.backups import Inspection
from strongroom.datastores.toolkit.tools import Tool

PIPE_BYTES = 1 << 20


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of ``data`` into a pipe. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Background:
    """A function that runs in a thread of its own.

    ``Thread.join`` is not used: in Python 3.11, a thread counts as ended once a signal has interrupted a join.
    """

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        self._error: BaseException | None = None
        self._ended = threading.Event()
        threading.Thread(target=self._run, args=(function,), name=name, daemon=True).start()

    def _run(self, function: Callable[[], None]) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 - raised again by finish()
            self._error = error
        finally:
            self._ended.set()

    def finish(self) -> None:
        """Wait for the end. Raises what the function raised."""
        self._ended.wait()
        if self._error is not None:
            raise self._error

    def ends(self, patience: float) -> bool:
        """Whether it ends within these seconds."""
        return self._ended.wait(patience)


class Piped:
    """The part of a backup session that owns its stream, the pipe ``stdout``."""

    stdout = -1

    def _open(self) -> int:
        """Create the pipe. Returns the end to write to."""
        self.stdout, write = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return write

    def _run_tool(self, argv: Sequence[str | Path], log: Path) -> Tool:
        """Start the tool that writes the stream."""
        write = self._open()
        try:
            return Tool(argv, log, stdout=write)
        except BaseException:
            self._close()
            raise
        finally:
            os.close(write)

    def _close(self) -> None:
        end, self.stdout = self.stdout, -1  # before the close, because a cancel may arrive right after it
        if end >= 0:
            os.close(end)


class Fed(Piped, ABC):
    """A session that writes into the pipe itself, in a thread. ``_start`` begins it, ``_join`` ends it."""

    def __init__(self) -> None:
        self.inspection: Inspection | None = None
        self.expected: int | None = None
        self._feeder: Background | None = None

    @abstractmethod
    def _produce(self, out: int) -> None:
        """Write the stream into the pipe; called in the thread."""

    def _start(self) -> None:
        write = self._open()
        self._feeder = Background("feeder", lambda: self._run(write))

    def _run(self, out: int) -> None:
        try:
            self._produce(out)
        finally:
            os.close(out)

    def _join(self) -> None:
        """Close ``stdout`` and wait for the thread. Raises what it raised."""
        self._close()
        if self._feeder is not None:
            self._feeder.finish()

    def abort(self) -> None:
        """End everything. The thread ends when its pipe breaks."""
        self._close()
        if self._feeder is not None:
            self._feeder.ends(5)
