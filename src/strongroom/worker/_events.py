"""Writes ``events.jsonl``: the progress of the job, one event per line."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from strongroom.worker.spec import Event

INTERVAL = 0.25
"""Minimum seconds between two events of a phase."""


@dataclass(slots=True)
class _Progress:
    done: int = 0
    stored: int = 0
    total: int | None = None


class EventLog:
    """Appends events. Thread-safe. Progress of a phase that has not begun is recorded and written when the phase begins."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._progress: dict[str, _Progress] = {}
        self._phase = ""
        self._began = self._written = time.monotonic()
        self._has_unwritten = False
        self.seconds: dict[str, float] = {}
        """How long each finished phase took."""

    def phase(self, name: str, *, total: int | None = None, message: str | None = None) -> None:
        """End the current phase and begin another."""
        with self._lock:
            self._end_phase()
            self._phase = name
            if total is not None:
                self._get_progress(name).total = total
            self._write_event(message)

    def add_message(self, message: str) -> None:
        """Write an event with a message for users about the current phase."""
        with self._lock:
            self._write_event(message)

    def expect(self, phase: str, total: int) -> None:
        """Set how many raw bytes a phase will process."""
        with self._lock:
            self._get_progress(phase).total = total

    def advance(self, phase: str, done: int, stored: int) -> None:
        """Set how many raw bytes and how many bytes in the store a phase has processed."""
        with self._lock:
            progress = self._get_progress(phase)
            progress.done, progress.stored = done, stored
            if phase == self._phase:
                self._has_unwritten = True
                if time.monotonic() - self._written >= INTERVAL:
                    self._write_event(None)

    def close(self) -> None:
        """End the current phase."""
        with self._lock:
            self._end_phase()
            self._phase = ""

    def _get_progress(self, phase: str) -> _Progress:
        return self._progress.setdefault(phase, _Progress())

    def _end_phase(self) -> None:
        now = time.monotonic()
        if self._phase:
            if self._has_unwritten:
                self._write_event(None)
            self.seconds[self._phase] = round(now - self._began, 3)
        self._began = now

    def _write_event(self, message: str | None) -> None:
        at = self._get_progress(self._phase)
        event = Event(phase=self._phase, done=at.done, total=at.total, stored=at.stored, message=message)
        os.write(self._fd, event.model_dump_json().encode() + b"\n")
        self._written = time.monotonic()
        self._has_unwritten = False
