"""One operation at a time on a server: between threads of the agent, and between the agent and the workers of jobs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.agent.registry import ServerRecord
from strongroom.errors import Busy
from strongroom.system.directories import make_directory
from strongroom.system.locks import take_lock

PATIENCE = 10.0
"""Seconds to wait for the lock of a server: a worker that wrote its result may need a moment to exit."""


class Holds:
    """Locks of servers. ``job_on`` returns the job that runs on a server."""

    def __init__(self, directory: Path, job_on: Callable[[str], str | None]) -> None:
        self._directory = directory
        self._job_on = job_on
        self._mutexes: dict[str, threading.RLock] = {}

    def load(self) -> None:
        """Make the directory of the locks."""
        make_directory(self._directory)

    def lock_path(self, server_id: str) -> Path:
        """The lock that whoever works on the server holds."""
        return self._directory / f"{server_id}.lock"

    def mutex(self, server_id: str) -> threading.RLock:
        """Held while a thread changes the server. It does not exclude jobs."""
        return self._mutexes.setdefault(server_id, threading.RLock())

    @contextmanager
    def hold(self, record: ServerRecord, patience: float | None = None) -> Iterator[None]:
        """Keep jobs and every other operation off the server. Raises Busy after ``patience`` seconds (default: PATIENCE)."""
        deadline = time.monotonic() + (PATIENCE if patience is None else patience)
        while (descriptor := take_lock(self.lock_path(record.id))) is None:
            if time.monotonic() > deadline:
                job = self._job_on(record.id)
                raise Busy(
                    f"server {record.label} is busy with {f'job {job}' if job else 'another operation'}",
                    remedy="Wait for it, or cancel it.",
                )
            time.sleep(0.05)
        try:
            with self.mutex(record.id):
                yield
        finally:
            os.close(descriptor)
