"""A worker that waits for its job: the start of one takes as long as many a job, so it is done while nothing else is."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence

from strongroom.agent.host.workers import start_worker
from strongroom.system.processes import Process


class Spare:
    """Keeps at most one. It ends by itself when nobody can give it a job any more, whatever becomes of us."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)
        self._mutex = threading.Lock()
        self._waiting: tuple[Process, socket.socket] | None = None

    def take(self, log: int) -> tuple[Process, socket.socket]:
        """The worker that waits, or a new one that writes to the descriptor ``log``; with the socket that is its stdin.

        It wants one message with descriptors (its log, then what it holds as long as it lives), then the order and the end.
        Raises OSError.
        """
        with self._mutex:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            if waiting[0].is_alive():
                return waiting
            waiting[1].close()
        return start_worker(self.command, log)

    def keep(self, preload: Sequence[str]) -> None:
        """See to it that one waits; it imports what jobs need with ``preload``, names of datastores. Raises OSError."""
        with self._mutex:
            if self._waiting is not None and not self._waiting[0].is_alive():
                self._waiting[1].close()
                self._waiting = None
            if self._waiting is None:
                nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                try:
                    self._waiting = start_worker((*self.command, *preload), nowhere)
                finally:
                    os.close(nowhere)

    def dismiss(self) -> None:
        """The one that waits is not needed any more."""
        with self._mutex:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting[1].close()
