"""Which run of a policy is due for one database, and what became of the runs that did not happen. Pure.

A run is (policy, database, nominal time). If a full and an incremental are due at one nominal time, they are one run: the full.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import takewhile
from typing import Literal
from uuid import NAMESPACE_URL, uuid5

from strongroom.errors import InvalidRequest
from strongroom.protection.clock import find_instant, find_zone, read_wall
from strongroom.protection.schedule import Schedule

Kind = Literal["full", "incremental"]

GRACE = timedelta(minutes=5)
"""A run that begins this much after its spread is not late."""
AHEAD = timedelta(minutes=10)
"""A last nominal time that is further ahead than this was written by a wrong clock."""
_DAY = timedelta(days=1)
_MOST_LISTED = 1000
"""Missed runs that are counted one by one; older ones are not looked for."""


class Miss(StrEnum):
    """Why a run did not happen."""

    SERVICE_DOWN = "service down"
    HOST_UNREACHABLE = "host unreachable"
    PAUSED = "paused"
    BLACKOUT = "blackout"
    OVERLAP = "overlap"
    NOT_READY = "database not ready"
    STOPPED = "schedule stopped"
    CHANGED = "schedule changed"
    DETACHED = "policy detached"


@dataclass(frozen=True, slots=True)
class Plan:
    """The schedules of a policy."""

    full: Schedule | None
    incremental: Schedule | None
    spread: timedelta = timedelta(minutes=5)
    """Runs of different databases with one nominal time begin within this time."""
    blackouts: tuple[Blackout, ...] = ()

    def next_after(self, instant: datetime) -> tuple[datetime, Kind] | None:
        """The next nominal time and what is due then; None if there is no schedule."""
        full = self.full.next_after(instant) if self.full else None
        incremental = self.incremental.next_after(instant) if self.incremental else None
        if full is not None and (incremental is None or full <= incremental):
            return full, "full"
        return (incremental, "incremental") if incremental is not None else None

    def find_blackout_end(self, instant: datetime) -> datetime | None:
        """When a run may begin, if the instant is in a blackout."""
        return max((end for blackout in self.blackouts if (end := blackout.end_after(instant)) is not None), default=None)


@dataclass(frozen=True, slots=True)
class Blackout:
    """A daily time in which nothing begins. It may include midnight."""

    start: timedelta
    """Since midnight."""
    end: timedelta
    zone: str

    def end_after(self, instant: datetime) -> datetime | None:
        """When it ends, if the instant is in it."""
        zone = find_zone(self.zone)
        wall = read_wall(instant, zone)
        midnight = wall.replace(hour=0, minute=0, second=0, microsecond=0)
        passed = wall - midnight
        if not self.includes(passed):
            return None
        is_tomorrow = self.start > self.end and passed >= self.start
        return find_instant(midnight + self.end + (_DAY if is_tomorrow else timedelta(0)), zone)

    def includes(self, passed: timedelta) -> bool:
        """Whether nothing begins when this much of a day has passed."""
        if self.start < self.end:
            return self.start <= passed < self.end
        return passed >= self.start or passed < self.end


@dataclass(frozen=True, slots=True)
class Missed:
    """Runs that did not happen, for one reason. One row, however many there are."""

    first: datetime
    last: datetime
    count: int
    """At least this many: of very many, only the newest are counted."""
    reason: Miss


@dataclass(frozen=True, slots=True)
class Due:
    """What to do now for one database."""

    run: datetime | None
    """Nominal time of the run that begins now; None: nothing does."""
    kind: Kind
    missed: tuple[Missed, ...]
    """To be recorded."""
    handled: datetime
    """Nominal times up to here are done: the next look continues after it."""
    wake: datetime | None
    """When to look again; None if there is no schedule."""


def find_due(
    plan: Plan,
    *,
    handled: datetime,
    now: datetime,
    offset: timedelta = timedelta(0),
    obstacle: Miss | None = None,
    full_owed: bool = False,
) -> Due:
    """Decide what is due.

    ``handled``: nominal times up to here are done. ``offset``: how much later than its nominal time a run of this database begins
    (``spread_offset``). ``obstacle``: why no run can begin now, if so. ``full_owed``: a full was due and skipped.
    """
    if handled > now + AHEAD:  # a clock that was a year ahead must not stop backups for a year
        handled = now
    times = list(_list_times(plan, handled, now))
    pending = [(time, kind) for time, kind in times if time + offset <= now]
    upcoming = plan.next_after(pending[-1][0] if pending else handled)
    wake = upcoming[0] + offset if upcoming else None
    if not pending:
        return Due(None, "incremental", (), handled, wake)
    nominal = pending[-1][0]
    kind: Kind = "full" if full_owed or (plan.full and plan.full.next_after(handled) <= nominal) else "incremental"
    earlier = [time for time, _ in pending[:-1]]
    if earlier and (oldest := plan.next_after(handled)) is not None:
        earlier[0] = oldest[0]
    missed = [_make_missed(earlier, Miss.SERVICE_DOWN)] if earlier else []
    is_late = now - nominal > plan.spread + GRACE
    end = plan.find_blackout_end(now)
    if obstacle is not None:
        return Due(None, kind, (*missed, _make_missed([nominal], obstacle)), nominal, wake)
    if end is not None:
        if wake is None or end < wake:
            return Due(None, kind, (), handled, end)
        return Due(None, kind, (*missed, _make_missed([nominal], Miss.BLACKOUT)), nominal, wake)
    if is_late and is_near(wake, nominal, now):
        return Due(None, kind, (_make_missed([*earlier, nominal], Miss.SERVICE_DOWN),), nominal, wake)
    return Due(nominal, kind, tuple(missed), nominal, wake)


def is_near(wake: datetime | None, nominal: datetime, now: datetime) -> bool:
    """Whether the next run begins so soon (at ``wake``) that the one of ``nominal`` is not made up for any more."""
    return wake is not None and wake - now < max(GRACE, (wake - nominal) / 10)


def spread_offset(policy: str, database: str, spread: timedelta) -> timedelta:
    """How much later than its nominal time a run of the database begins: stable, and even over the spread."""
    seconds = int(spread.total_seconds())
    if seconds <= 0:
        return timedelta(0)
    digest = hashlib.sha256(f"{policy}|{database}".encode()).digest()
    return timedelta(seconds=int.from_bytes(digest[:8]) % seconds)


def make_run_id(policy: str, database: str, nominal: datetime) -> str:
    """The id of the run: the same for every control plane that finds it due."""
    return str(uuid5(NAMESPACE_URL, f"strongroom:run:{policy}|{database}|{int(nominal.timestamp())}"))


def make_missed_id(policy: str, database: str, first: datetime) -> str:
    """The id of the row for missed runs. Another one than the run's: after a wrong clock it may still happen."""
    return str(uuid5(NAMESPACE_URL, f"strongroom:missed:{policy}|{database}|{int(first.timestamp())}"))


def make_job_id(run: str, attempt: int) -> str:
    """The id of the job of an attempt (1, 2, …) of the run."""
    return str(uuid5(NAMESPACE_URL, f"strongroom:attempt:{run}|{attempt}"))


def parse_blackout(text: str, zone: str) -> Blackout:
    """Read ``08:00-18:00``. Raises InvalidRequest."""
    find_zone(zone)
    begin, dash, end = text.replace(" ", "").partition("-")
    start, finish = _read_time(begin), _read_time(end)
    if not dash or start is None or finish is None or start == finish:
        raise InvalidRequest(f"{text!r} is not a time of day range", remedy="Write it as HH:MM-HH:MM, for example 08:00-18:00.")
    return Blackout(start, finish, zone)


def cover_day(blackouts: Sequence[Blackout]) -> bool:
    """Whether the blackouts leave no time in which anything could begin."""
    ends = [blackout.end % _DAY for blackout in blackouts]
    return bool(ends) and all(any(blackout.includes(end) for blackout in blackouts) for end in ends)


def _read_time(text: str) -> timedelta | None:
    hours, colon, minutes = text.partition(":")
    if not (colon and hours.isascii() and minutes.isascii() and hours.isdigit() and minutes.isdigit() and len(minutes) == 2):
        return None
    time = timedelta(hours=int(hours[:3]), minutes=int(minutes))
    return time if time <= timedelta(days=1) and int(minutes) < 60 else None


def _list_times(plan: Plan, after: datetime, until: datetime) -> Iterable[tuple[datetime, Kind]]:
    """Nominal times in (after, until]; if there are very many, the newest ones only."""

    def times(start: datetime) -> Iterable[tuple[datetime, Kind]]:
        while (found := plan.next_after(start)) is not None:
            yield found
            start = found[0]

    step = timedelta(days=2)
    start = after
    while until - start > step:  # no loop over years: skip to where the newest ones are
        listed = list(takewhile(lambda found: found[0] <= until, _take_first(times(start), _MOST_LISTED)))
        if len(listed) < _MOST_LISTED:
            return listed
        start += max(step, (until - start) / 2)
    return list(takewhile(lambda found: found[0] <= until, times(start)))


def _take_first(times: Iterable[tuple[datetime, Kind]], count: int) -> Iterable[tuple[datetime, Kind]]:
    for number, found in enumerate(times, start=1):
        yield found
        if number == count:
            return


def _make_missed(times: Sequence[datetime], reason: Miss) -> Missed:
    return Missed(times[0], times[-1], len(times), reason)
