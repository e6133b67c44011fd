"""A job on disk: the worker's directory, and the agent's record beside it, which no other user can write.

``<id>/`` (of the worker's user): ``events.jsonl``, ``result.json``, ``lock``, ``request.json``, ``worker.log``, ``work/``;
``<id>.json`` (the agent's): the request, the process, how it ended.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from strongroom.system.files import MAX_BYTES, read_bytes, read_model
from strongroom.system.locks import is_locked
from strongroom.system.processes import Process
from strongroom.worker.spec import Event, Failure, Result

Ended = Literal["succeeded", "failed", "cancelled", "lost"]
_CHUNK = 1024**2
_LONGEST_LINE = 64 * 1024


class JobRecord(BaseModel):
    """What the agent keeps of a job. Holds no secret."""

    model_config = ConfigDict(extra="forbid")

    id: str
    server: str | None = None
    kind: str
    request: dict[str, Any]
    created: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    process: Process | None = None
    target_dir: Path | None = None
    staging: list[Path] = Field(default_factory=list, description="restore: what it fills beside outside directories.")
    kill_at: AwareDatetime | None = Field(None, description="Cancelled: when SIGKILL follows the SIGINT.")
    ended: Ended | None = None
    finished: AwareDatetime | None = None


class JobDir:
    """The worker's side. Another user wrote everything in it, so reads are bounded and follow no links."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._rest = b""
        self.events = 0
        """Events read so far."""
        self.last: Event | None = None

    @property
    def work(self) -> Path:
        """Scratch space of the worker."""
        return self.path / "work"

    @property
    def lock(self) -> Path:
        """The worker holds it as long as it lives."""
        return self.path / "lock"

    def held(self) -> bool:
        """Whether the worker lives."""
        return is_locked(self.lock)

    def read_events(self) -> None:
        """Read new events. An incomplete line is left for the next call."""
        try:
            descriptor = os.open(self.path / "events.jsonl", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return
        try:
            while data := os.pread(descriptor, _CHUNK, self._offset):
                self._offset += len(data)
                *lines, self._rest = (self._rest + data).split(b"\n")
                self._rest = self._rest[:_LONGEST_LINE]
                for line in lines:
                    self._take(line)
        finally:
            os.close(descriptor)

    def _take(self, line: bytes) -> None:
        try:
            self.last = Event.model_validate_json(line)
        except ValidationError:
            return
        self.events += 1

    def result(self) -> Result | None:
        """What the worker wrote at its end; None before. A result that cannot be read counts as failed."""
        path = self.path / "result.json"
        try:
            return read_model(path, Result)
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            now = datetime.now(UTC)
            return Result(
                status="failed",
                started=now,
                finished=now,
                failure=Failure(
                    code="JobLost",
                    message=f"the result {path} cannot be read",
                    remedy="Another program wrote it; run the job again.",
                ),
            )

    def result_age(self) -> float:
        """Seconds since the result was written; 0 if there is none."""
        try:
            return datetime.now(UTC).timestamp() - (self.path / "result.json").lstat().st_mtime
        except OSError:
            return 0.0

    def log_tail(self, length: int = 2000) -> str:
        """The end of what the worker wrote to stderr."""
        try:
            return read_bytes(self.path / "worker.log", MAX_BYTES)[-length:].decode(errors="replace").strip()
        except (OSError, ValueError):
            return ""
