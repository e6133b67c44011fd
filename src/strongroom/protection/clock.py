"""Wall-clock times and instants: what a time zone does to both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import overload
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from strongroom.errors import InvalidRequest

_SECOND = timedelta(seconds=1)
_STEP = timedelta(days=1)
"""No zone changes its offset twice within a day."""


_REMEDY = "Use an IANA name such as UTC, Europe/Vienna or America/New_York."
_LOCAL_NAMES = frozenset({"localtime", "posixrules", "Factory"})
"""Files beside the zones. Each host may define them differently."""
_VARIANTS = ("posix/", "right/")
"""Folders with copies of all zones; those in ``right/`` count leap seconds, unlike the clock."""


@overload
def format_second(instant: datetime) -> str: ...
@overload
def format_second(instant: datetime | None) -> str | None: ...
def format_second(instant: datetime | None) -> str | None:
    """An instant in replies: UTC, whole seconds, ISO 8601 with ``Z``."""
    return instant.isoformat(timespec="seconds").replace("+00:00", "Z") if instant else None


def find_zone(name: str) -> ZoneInfo:
    """The zone with this name. Raises InvalidRequest."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise InvalidRequest(f"there is no time zone {name!r}", remedy=_REMEDY) from None


def require_zone(name: str) -> None:
    """Raise InvalidRequest unless the name is that of an IANA zone, which means the same on every host."""
    if name in _LOCAL_NAMES or name.startswith(_VARIANTS):
        raise InvalidRequest(f"{name!r} is not the IANA name of a time zone", remedy=_REMEDY)
    find_zone(name)


def read_wall(instant: datetime, zone: ZoneInfo) -> datetime:
    """What a clock in the zone shows at the instant, as a naive time."""
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def find_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant (UTC) at which the clock shows the naive time ``wall`` or, if it skips that time, has just skipped it."""
    instant = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if read_wall(instant, zone) == wall:
        return instant
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _find_change(before, instant, zone)


def next_change(after: datetime, until: datetime, zone: ZoneInfo) -> datetime | None:
    """The first instant in (after, until] at which the zone has another offset than before; None if there is none."""
    start = after
    while start < until:
        end = min(start + _STEP, until)
        if end.astimezone(zone).utcoffset() != start.astimezone(zone).utcoffset():
            return _find_change(start, end, zone)
        start = end
    return None


def _find_change(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The second in (low, high] at which the offset changes from the one at ``low`` to another."""
    old = low.astimezone(zone).utcoffset()
    low = low.replace(microsecond=0)
    while high - low > _SECOND:
        middle = (low + (high - low) / 2).replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == old:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)
