"""``events.jsonl``: where the job is, a line at a time."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from strongroom.worker.spec import Event

INTERVAL = 0.25
"""Seconds between two lines of one phase, at least."""


@dataclass(slots=True)
class _Progress:
    done: int = 0
    stored: int = 0
    total: int | None = None


class EventLog:
    """Appends events. Safe to use from many threads. Phases may make progress before they begin: it counts when they do."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._progress: dict[str, _Progress] = {}
        self._phase = ""
        self._began = self._written = time.monotonic()
        self._behind = False
        self.seconds: dict[str, float] = {}
        """How long each phase took that is over."""

    def phase(self, name: str, *, total: int | None = None, message: str | None = None) -> None:
        """A phase begins, and the one before it ends."""
        with self._lock:
            self._end_phase()
            self._phase = name
            if total is not None:
                self._of(name).total = total
            self._write(message)

    def tell(self, message: str) -> None:
        """Something that people should know about the phase while it lasts."""
        with self._lock:
            self._write(message)

    def expect(self, phase: str, total: int) -> None:
        """How many raw bytes a phase will have."""
        with self._lock:
            self._of(phase).total = total

    def advance(self, phase: str, done: int, stored: int) -> None:
        """A phase has done so many raw bytes, and so many of the store."""
        with self._lock:
            progress = self._of(phase)
            progress.done, progress.stored = done, stored
            if phase == self._phase:
                self._behind = True
                if time.monotonic() - self._written >= INTERVAL:
                    self._write(None)

    def close(self) -> None:
        """The last phase is over."""
        with self._lock:
            self._end_phase()
            self._phase = ""

    def _of(self, phase: str) -> _Progress:
        return self._progress.setdefault(phase, _Progress())

    def _end_phase(self) -> None:
        now = time.monotonic()
        if self._phase:
            if self._behind:
                self._write(None)
            self.seconds[self._phase] = round(now - self._began, 3)
        self._began = now

    def _write(self, message: str | None) -> None:
        at = self._of(self._phase)
        event = Event(phase=self._phase, done=at.done, total=at.total, stored=at.stored, message=message)
        os.write(self._fd, event.model_dump_json().encode() + b"\n")
        self._written = time.monotonic()
        self._behind = False
