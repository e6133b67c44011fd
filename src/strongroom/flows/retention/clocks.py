"""Time as retention counts it: only while the service runs, and only while the clock can be trusted.

Several control planes may use one catalog, one after the other. Each has its own clock, so each keeps its own reading.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom.catalog import Fact, now

SERVED = "retention_served"
COUNTED = "retention_counted"
"""Key of the wall-clock time up to which ``SERVED`` was counted."""
CLOCK = "retention_clock"
"""The keys of readings begin with this; the id of the boot follows."""
JUMP = timedelta(minutes=10)
"""Allowed difference between the progress of the wall clock and of the time since boot."""
FORGOTTEN = timedelta(days=30)
"""Readings of other boots that are so much older are deleted."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clocks of a host show."""

    boot: str
    """Id of the boot that ``elapsed`` counts from: another one for each host, and after each restart of a host."""
    elapsed: float
    """Seconds since boot, including suspend."""
    wall: float
    """The wall clock, in seconds since 1970."""


def read_clocks() -> Reading:
    """Read the clocks of this host."""
    return Reading(_BOOT.read_text().strip(), time.clock_gettime(time.CLOCK_BOOTTIME), now().timestamp())


def find_jump(trusted: Iterable[Reading], new: Reading) -> str:
    """Why the wall clock cannot be trusted; empty if it can be. ``trusted``: the last trusted reading of each boot of each host.

    With a reading of the same boot, both directions are detected. The clock must not be behind the readings of other boots and
    hosts either: if two hosts disagree, at least one of them is wrong, and nobody knows which.
    """
    readings = list(trusted)
    own = max((old for old in readings if old.boot == new.boot), key=lambda old: old.elapsed, default=None)
    if own is not None:
        moved = timedelta(seconds=(new.wall - own.wall) - (new.elapsed - own.elapsed))
        if abs(moved) > JUMP:
            way = "forward" if moved > timedelta(0) else "back"
            return f"the clock of the service went {way} by {_describe(abs(moved))}"
    newest = max((old.wall for old in readings if old.boot != new.boot), default=new.wall)
    if new.wall < newest - JUMP.total_seconds():
        behind = _describe(timedelta(seconds=newest - new.wall))
        if own is not None:
            return f"the clock of the service is behind that of another control plane by {behind}"
        return f"the clock of the service went back by {behind}"
    return ""


def load_readings(session: Session) -> list[Reading]:
    """The last trusted reading of each boot of each host."""
    return [Reading(**json.loads(fact.value)) for fact in _load_facts(session)]


def keep_reading(session: Session, reading: Reading) -> None:
    """Trust the reading: later ones are compared with it. Old readings of other boots are deleted."""
    session.merge(Fact(key=_make_key(reading), value=json.dumps(asdict(reading))))
    _delete_others(session, reading, before=reading.wall - FORGOTTEN.total_seconds())


def vouch_for(session: Session, reading: Reading) -> None:
    """Trust the reading because a person says so, and no reading that is ahead of it."""
    keep_reading(session, reading)
    _delete_others(session, reading, after=reading.wall)


def read_served(session: Session) -> int:
    """The number of seconds that the service has run, as counted by retention."""
    fact = session.get(Fact, SERVED)
    return int(fact.value) if fact else 0


def add_served(session: Session, seconds: float) -> int:
    """Count time in which the service ran. Returns the sum."""
    total = read_served(session) + max(0, int(seconds))
    session.merge(Fact(key=SERVED, value=str(total)))
    return total


def count_served(session: Session, last: Reading | None, new: Reading) -> None:
    """Count the time since this process read its clocks last, but not what another control plane has counted."""
    fact = session.get(Fact, COUNTED)
    if last is not None and last.boot == new.boot:
        uncounted = new.wall - float(fact.value) if fact else new.elapsed - last.elapsed
        add_served(session, min(new.elapsed - last.elapsed, uncounted))
    session.merge(Fact(key=COUNTED, value=str(new.wall)))


def _make_key(reading: Reading) -> str:
    return f"{CLOCK} {reading.boot}"


def _load_facts(session: Session) -> list[Fact]:
    return list(session.scalars(select(Fact).where(Fact.key.startswith(CLOCK, autoescape=True))))


def _delete_others(session: Session, reading: Reading, *, before: float = float("-inf"), after: float = float("inf")) -> None:
    """Delete the other readings that are before or after these times, and any of the same boot (an earlier version wrote one)."""
    for fact in _load_facts(session):
        old = Reading(**json.loads(fact.value))
        if fact.key != _make_key(reading) and (old.boot == reading.boot or old.wall < before or old.wall > after):
            session.delete(fact)


def _describe(span: timedelta) -> str:
    return f"{span.days} days" if span.days else f"{int(span.total_seconds() // 60)} minutes"
