"""Keeps a worker that waits for the next job: its start would take as long as a small job."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Sequence

from strongroom.agent.host.workers import start_worker
from strongroom.system.processes import Process


class Spare:
    """At most one. It ends when the agent does: its stdin is closed then."""

    def __init__(self, command: Sequence[str]) -> None:
        self.command = tuple(command)
        self._mutex = threading.Lock()
        self._waiting: tuple[Process, socket.socket] | None = None

    def take(self, log: int) -> tuple[Process, socket.socket]:
        """The waiting worker, or a new one with output to the descriptor ``log``; and the socket that is its stdin.

        It expects what ``send_work`` sends.
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
        """Ensure that one waits. It imports the datastores named in ``preload``. Raises OSError."""
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
        """End the waiting one."""
        with self._mutex:
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting[1].close()
