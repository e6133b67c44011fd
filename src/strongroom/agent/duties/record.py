"""What the agent keeps of a duty, and when it restarts it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from strongroom.system.processes import Process

WINDOW = timedelta(minutes=10)
"""Restarts within it count for the next pause."""
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""A duty is never given up: a pause between two starts grows up to this."""


class DutyRecord(BaseModel):
    """A duty on disk. Its options may hold secrets and are in memory only."""

    model_config = ConfigDict(extra="forbid")

    id: str
    kind: str
    server: str
    wanted: Literal["running", "stopped"] = "running"
    process: Process | None = None
    digest: str = Field("", description="``DutyRequest.digest`` of the options of the process.")
    kill_at: AwareDatetime | None = Field(None, description="It is being stopped: when SIGKILL follows the SIGTERM.")
    restarts: list[AwareDatetime] = Field(default_factory=list, description="When its process was found dead.")

    def note_death(self) -> None:
        """Count a death of its process."""
        now = datetime.now(UTC)
        self.restarts = [*(when for when in self.restarts if when > now - WINDOW), now]

    def count_restarts(self) -> int:
        """How often its process died lately."""
        return sum(when > datetime.now(UTC) - WINDOW for when in self.restarts)

    def may_start(self) -> bool:
        """Whether the pause after its last death is over."""
        if not self.restarts:
            return True
        pause = min(FIRST_PAUSE * 2 ** (len(self.restarts) - 1), LONGEST_PAUSE)
        return datetime.now(UTC) >= self.restarts[-1] + timedelta(seconds=pause)


class DutyFiles:
    """The directory of a duty, which belongs to its OS user, and the agent's record beside it."""

    def __init__(self, root: Path, duty_id: str) -> None:
        self.directory = root / duty_id
        self.record = root / f"{duty_id}.json"
        self.lock = root / f"{duty_id}.lock"
        """Held by the process as long as it lives."""
        self.log = root / f"{duty_id}.log"
