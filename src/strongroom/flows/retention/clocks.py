"""Time as retention counts it: only while the service runs, and only while the clock can be trusted."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy.orm import Session

from strongroom.catalog import Fact, now

SERVED = "retention_served"
CLOCK = "retention_clock"
JUMP = timedelta(minutes=10)
"""Allowed difference between the progress of the wall clock and of the time since boot."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clocks of this machine show."""

    boot: str
    """Id of the boot that ``elapsed`` counts from."""
    elapsed: float
    """Seconds since boot, including suspend."""
    wall: float
    """The wall clock, in seconds since 1970."""


def read_clocks() -> Reading:
    """Read the clocks."""
    return Reading(_BOOT.read_text().strip(), time.clock_gettime(time.CLOCK_BOOTTIME), now().timestamp())


def find_jump(old: Reading | None, new: Reading) -> str:
    """Why the wall clock cannot be trusted; empty if it can be. ``old``: the last reading that was trusted."""
    if old is None:
        return ""
    if old.boot == new.boot:
        moved = timedelta(seconds=(new.wall - old.wall) - (new.elapsed - old.elapsed))
        if abs(moved) > JUMP:
            way = "forward" if moved > timedelta(0) else "back"
            return f"the clock of the service went {way} by {_describe(abs(moved))}"
    elif new.wall < old.wall - JUMP.total_seconds():
        return f"the clock of the service went back by {_describe(timedelta(seconds=old.wall - new.wall))}"
    return ""


def load_reading(session: Session) -> Reading | None:
    """The last reading that was trusted."""
    fact = session.get(Fact, CLOCK)
    return Reading(**json.loads(fact.value)) if fact else None


def keep_reading(session: Session, reading: Reading) -> None:
    """Trust the reading: later ones are compared with it."""
    session.merge(Fact(key=CLOCK, value=json.dumps(asdict(reading))))


def read_served(session: Session) -> int:
    """The number of seconds that the service has run, as counted by retention."""
    fact = session.get(Fact, SERVED)
    return int(fact.value) if fact else 0


def add_served(session: Session, seconds: float) -> int:
    """Count time in which the service ran. Returns the sum."""
    total = read_served(session) + max(0, int(seconds))
    session.merge(Fact(key=SERVED, value=str(total)))
    return total


def _describe(span: timedelta) -> str:
    return f"{span.days} days" if span.days else f"{int(span.total_seconds() // 60)} minutes"
