"""When something is due: five cron fields, plain words, or a fixed interval.

Wall-clock times behave like Debian's cron 3.0pl1 (cron(8), "daylight saving"): a fixed time that a clock change skips is due at
the change, one that occurs twice is due once; a minute or an hour that begins with ``*`` follows the clock. cronsim finds the
next wall-clock time; what a time zone makes of it is decided here, because cronsim loses and repeats runs in some zones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from strongroom.errors import InvalidRequest
from strongroom.protection.clock import find_instant, find_zone, next_change, read_wall
from strongroom.protection.durations import parse_duration

_DAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
_ORDINALS = {"first": "1", "second": "2", "third": "3", "fourth": "4"}
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day of month", 1, 31), ("month", 1, 12), ("day of week", 0, 7))
_REMEDY = (
    'Write words such as "daily 02:00", "sun,wed 23:30", "first sun 02:00" or "every 6h", '
    'or five cron fields such as "30 2 * * 1-5".'
)
_SHORTEST = timedelta(minutes=5)
_MICROSECOND = timedelta(microseconds=1)
_ANY_WALL = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class Schedule:
    """One rule for due times. Build it with ``parse_schedule``."""

    text: str
    """As the user wrote it."""
    zone: str
    """IANA name of the time zone of its wall-clock times."""
    cron: str | None
    """Five fields; None for an interval."""
    interval: timedelta | None
    """Exact time between two runs; None for cron fields."""
    anchor: datetime
    """An interval counts from here (UTC)."""

    def next_after(self, instant: datetime) -> datetime:
        """The first due instant (UTC) after ``instant``."""
        if self.interval is not None:
            passed = (instant - self.anchor) // self.interval
            return self.anchor + (passed + 1) * self.interval
        if self.follows_clock:
            return self._next_shown(instant)
        return self._next_fixed(instant)

    @property
    def follows_clock(self) -> bool:
        """Whether it is due whenever the clock shows a matching time, also twice: its minute or hour begins with ``*``."""
        return self.cron is not None and any(field.startswith("*") for field in self.cron.split()[:2])

    def due_times(self, after: datetime) -> Iterator[datetime]:
        """All due instants after ``after``, without end."""
        while True:
            after = self.next_after(after)
            yield after

    def _next_fixed(self, instant: datetime) -> datetime:
        zone = find_zone(self.zone)
        assert self.cron is not None
        for wall in CronSim(self.cron, read_wall(instant, zone)):
            due = find_instant(wall, zone)
            if due > instant:
                return due
        raise InvalidRequest(f"{self.text!r} never comes", remedy=_REMEDY)

    def _next_shown(self, instant: datetime) -> datetime:
        zone = find_zone(self.zone)
        assert self.cron is not None
        start = instant
        while True:
            offset = start.astimezone(zone).utcoffset() or timedelta(0)
            wall = next(CronSim(self.cron, (instant + offset).replace(tzinfo=None)))
            due = (wall - offset).replace(tzinfo=UTC)
            change = next_change(start, due, zone)
            if change is None:
                return due
            start, instant = change, change - _MICROSECOND  # the instant of the change itself may be due


def parse_schedule(text: str, *, zone: str = "UTC", anchor: datetime) -> Schedule:
    """Read a schedule. ``anchor``: what an interval counts from, aware. Raises InvalidRequest."""
    find_zone(zone)
    words = " ".join(text.lower().split())
    interval = _read_interval(words)
    cron = None if interval is not None else _read_words(words) or _read_cron(text)
    schedule = Schedule(text=" ".join(text.split()), zone=zone, cron=cron, interval=interval, anchor=anchor.astimezone(UTC))
    if cron is not None:
        try:
            next(CronSim(cron, _ANY_WALL))
        except (CronSimError, StopIteration):
            raise InvalidRequest(f"{text!r} never comes", remedy=_REMEDY) from None
    return schedule


def warn_about(schedule: Schedule) -> str:
    """What its author may not have meant; empty if there is nothing to say."""
    if schedule.cron is None:
        return ""
    _, _, day, _, weekday = schedule.cron.split()
    if not day.startswith("*") and not weekday.startswith("*"):
        return (
            f"{schedule.text!r} is due on the days of the month and also on every one of the weekdays, as in cron; "
            'for one weekday of each month write for example "first sun 02:00"'
        )
    return ""


def _read_interval(words: str) -> timedelta | None:
    match = re.fullmatch(r"every (\S+)", words)
    if match is None:
        return None
    interval = parse_duration(match[1])
    if interval < _SHORTEST:
        raise InvalidRequest(f"{words!r} is too often", remedy="The shortest interval is 5m.")
    return interval


def _read_words(words: str) -> str | None:
    """The cron fields of plain words; None if they are none."""
    if words == "hourly":
        return "0 * * * *"
    if match := re.fullmatch(r"hourly :?([0-5][0-9])", words):
        return f"{int(match[1])} * * * *"
    match = re.fullmatch(r"(?P<days>[a-z][a-z, -]*?)(?: (?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2}))?", words)
    if match is None:
        return None
    hour, minute = int(match["hour"] or 0), int(match["minute"] or 0)
    if hour > 23 or minute > 59:
        raise InvalidRequest(
            f"there is no time of day {match['hour']}:{match['minute']}", remedy="Write it as HH:MM, 00:00 to 23:59."
        )
    days = match["days"].replace(", ", ",")
    at = f"{minute} {hour}"
    if days == "daily":
        return f"{at} * * *"
    if days == "weekly":
        return f"{at} * * 0"
    if days == "monthly":
        return f"{at} 1 * *"
    if days == "last day":
        return f"{at} L * *"
    if ordinal := re.fullmatch(r"(first|second|third|fourth|last) ([a-z]+)", days):
        day = _read_day(ordinal[2], words)
        return f"{at} * * {day}L" if ordinal[1] == "last" else f"{at} * * {day}#{_ORDINALS[ordinal[1]]}"
    numbers: set[int] = set()
    for part in days.split(","):
        first, dash, last = part.partition("-")
        begin = _read_day(first, words)
        end = _read_day(last, words) if dash else begin
        numbers.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return f"{at} * * {','.join(map(str, sorted(numbers)))}"


def _read_day(word: str, words: str) -> int:
    """Number of the weekday, Sunday is 0. At least three letters of its name."""
    name = word.strip()
    for number, day in enumerate(_DAYS):
        if len(name) >= 3 and day.startswith(name):
            return number
    raise InvalidRequest(f"{words!r} is not a schedule", remedy=_REMEDY)


def _read_cron(text: str) -> str:
    """The five fields, checked. Raises InvalidRequest."""
    if text.strip().startswith("@"):
        raise InvalidRequest(
            f"{text!r} is not a schedule", remedy=f"Write {text.strip()[1:] or 'daily'!r} without the @. {_REMEDY}"
        )
    fields = text.upper().split()
    if len(fields) != 5:
        raise InvalidRequest(f"{text!r} is not a schedule: cron has five fields, this has {len(fields)}", remedy=_REMEDY)
    for (name, low, high), value in zip(_FIELDS, fields, strict=True):
        for part in value.split(","):
            step = part.partition("/")[2]
            if step.isascii() and step.isdigit() and not 0 < int(step) <= high - low:
                raise InvalidRequest(
                    f"{text!r}: a step of {step} is beyond the {name} field, so only the beginning of every cycle would be due",
                    remedy='For an exact interval write for example "every 90m".',
                )
    try:
        CronSim(" ".join(fields), _ANY_WALL)
    except CronSimError as error:
        raise InvalidRequest(f"{text!r} is not a schedule: {str(error).lower() or 'wrong field'}", remedy=_REMEDY) from None
    return " ".join(fields)
