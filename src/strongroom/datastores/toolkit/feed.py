"""A stream that we make ourselves: a thread writes it into a pipe, whose other end is read as that of a tool would be."""

from __future__ import annotations

import fcntl
import os
import threading
from abc import ABC, abstractmethod
from contextlib import suppress

from strongroom.datastores.protocol.backups import Inspection

PIPE_BYTES = 1 << 20


def write_all(fd: int, data: bytes | memoryview) -> None:
    """All of ``data`` into a pipe. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Piped:
    """The part of a backup session that has to do with its stream, which comes out of the pipe ``stdout``."""

    stdout = -1

    def _open(self) -> int:
        """Make the pipe: its other end."""
        self.stdout, write = os.pipe()
        with suppress(OSError):
            fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        return write

    def _close(self) -> None:
        end, self.stdout = self.stdout, -1  # first, for a cancel may come right after the close
        if end >= 0:
            os.close(end)


class Fed(Piped, ABC):
    """A session that writes into the pipe itself, in a thread. ``_start`` begins it, ``_join`` ends it."""

    def __init__(self) -> None:
        self.inspection: Inspection | None = None
        self.expected: int | None = None
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    @abstractmethod
    def _produce(self, out: int) -> None:
        """Write the stream into the pipe; called in the thread."""

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, args=(self._open(),), name="feeder", daemon=True)
        self._thread.start()

    def _run(self, out: int) -> None:
        try:
            self._produce(out)
        except BaseException as error:  # noqa: BLE001 - raised again by finish()
            self._error = error
        finally:
            os.close(out)

    def _join(self) -> None:
        """Close ``stdout`` and wait for the thread. Raises what it raised."""
        self._close()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def abort(self) -> None:
        """End everything; the thread follows when its pipe breaks."""
        self._close()
        if self._thread is not None:
            self._thread.join(5)
