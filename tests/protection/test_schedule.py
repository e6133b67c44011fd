"""Due times: words, cron fields and intervals, compared with a brute-force model of Debian's cron over clock changes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import InvalidRequest
from strongroom.protection.durations import format_duration, parse_duration
from strongroom.protection.schedule import Schedule, parse_schedule, warn_about

NOW = datetime(2026, 11, 30, 5, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CHANGES = [
    ("Europe/Vienna", datetime(2026, 3, 29, 1, tzinfo=UTC)),
    ("Europe/Vienna", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 10, 3, 15, 30, tzinfo=UTC)),
    ("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC)),
    ("America/St_Johns", datetime(2011, 3, 13, 3, 31, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 3, 8, 5, tzinfo=UTC)),
    ("America/Havana", datetime(2026, 11, 1, 5, tzinfo=UTC)),
    ("Africa/Cairo", datetime(2026, 4, 23, 22, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 4, 5, 3, tzinfo=UTC)),
    ("America/Santiago", datetime(2026, 9, 6, 4, tzinfo=UTC)),
]
EXPRESSIONS = [
    "30 2 * * *",
    "0 0 * * *",
    "1 0 * * *",
    "0 2 * * *",
    "0,30 2 * * *",
    "0 0,6,12 * * *",
    "*/30 * * * *",
    "0 */2 * * *",
]
EXPRESSIONS += ["*/30 2 * * *", "0 * * * *", "30 0 * * *", "15 1-3 * * *"]


def wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def parse_field(field: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        begin, end = (low, high) if span == "*" else (int(first), int(last or first))
        found.update(range(begin, end + 1, int(step or 1)))
    return found


def list_by_debian(expression: str, zone: ZoneInfo, start: datetime, end: datetime) -> list[datetime]:
    """Every instant in (start, end] by the rule of cron(8), minute by minute. Days are always ``*`` here."""
    minute, hour = expression.split()[:2]
    minutes, hours = parse_field(minute, 0, 59), parse_field(hour, 0, 23)
    follows_clock = minute.startswith("*") or hour.startswith("*")
    due: set[datetime] = set()
    shown: set[datetime] = set()
    instant = start - timedelta(days=1)
    before = wall(instant - MINUTE, zone)
    while instant <= end:
        now = wall(instant, zone)
        if follows_clock:
            if now.minute in minutes and now.hour in hours:
                due.add(instant)
        else:
            skipped = before + MINUTE
            while skipped <= now:  # all of a gap at the change, one minute otherwise, none when the clock goes back
                if skipped.minute in minutes and skipped.hour in hours and skipped not in shown:
                    due.add(instant)
                shown.add(skipped)
                skipped += MINUTE
            if now not in shown and now.minute in minutes and now.hour in hours:
                due.add(instant)
            shown.add(now)
        before = now
        instant += MINUTE
    return sorted(time for time in due if start < time <= end)


@pytest.mark.parametrize("zone,change", CHANGES, ids=lambda value: str(value)[:25])
def test_due_times_over_clock_changes_are_those_of_debian_cron(zone: str, change: datetime) -> None:
    start, end = change - timedelta(hours=15), change + timedelta(hours=15)
    for expression in EXPRESSIONS:
        schedule = parse_schedule(expression, zone=zone, anchor=NOW)
        found = []
        for due in schedule.due_times(start):
            if due > end:
                break
            found.append(due)
        assert found == list_by_debian(expression, ZoneInfo(zone), start, end), expression


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(CHANGES), st.sampled_from(EXPRESSIONS), st.integers(-3 * 86_400, 3 * 86_400))
def test_the_next_time_does_not_depend_on_the_start(change: tuple[str, datetime], expression: str, seconds: int) -> None:
    """After a restart in the repeated hour, cronsim alone returns the past."""
    zone, at = change
    schedule = parse_schedule(expression, zone=zone, anchor=NOW)
    instant = at + timedelta(seconds=seconds)
    sequence: Iterator[datetime] = schedule.due_times(at - timedelta(days=4))
    assert schedule.next_after(instant) == next(due for due in sequence if due > instant)


@pytest.mark.parametrize(
    ("text", "cron"),
    [
        ("hourly", "0 * * * *"),
        ("hourly :15", "15 * * * *"),
        ("daily", "0 0 * * *"),
        ("Daily 02:00", "0 2 * * *"),
        ("weekly 3:30", "30 3 * * 0"),
        ("sun,wed 23:30", "30 23 * * 0,3"),
        ("Sunday, Wednesday 23:30", "30 23 * * 0,3"),
        ("fri-mon 02:00", "0 2 * * 0,1,5,6"),
        ("first sun 02:00", "0 2 * * 0#1"),
        ("last fri 02:00", "0 2 * * 5L"),
        ("last day 03:00", "0 3 L * *"),
        ("monthly", "0 0 1 * *"),
        ("30  2 * * 1-5", "30 2 * * 1-5"),
    ],
)
def test_words_are_converted_to_cron_fields(text: str, cron: str) -> None:
    assert parse_schedule(text, anchor=NOW).cron == cron


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@daily",
        "0 0 30 2 *",
        "*/90 * * * *",
        "0 0 0 * * *",
        "daily 25:00",
        "daily 02:60",
        "foo",
        "every 1m",
        "every x",
        "s 02:00",
        "sun 2",
        "0 0 31 2,4 *",
        "61 * * * *",
        "every 0h",
        "first foo 02:00",
        "-1 * * * *",
        "* * * * * *",
        "daily 2:0",
        "sun;rm 02:00",
        "*/² * * * *",
        "sun- 02:00",
    ],
)
def test_invalid_schedules_are_refused_with_a_remedy(text: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_schedule(text, anchor=NOW)
    assert caught.value.remedy


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "", "/etc/localtime"])
def test_unknown_zones_are_refused(zone: str) -> None:
    with pytest.raises(InvalidRequest, match="time zone"):
        parse_schedule("daily", zone=zone, anchor=NOW)


def test_an_interval_is_exact_over_a_clock_change() -> None:
    anchor = datetime(2026, 10, 24, 21, 30, tzinfo=UTC)
    schedule = parse_schedule("every 6h", zone="Europe/Vienna", anchor=anchor)
    times = list(islice(schedule.due_times(anchor), 4))
    assert times == [anchor + timedelta(hours=6 * n) for n in range(1, 5)]
    assert schedule.next_after(times[1] - timedelta(seconds=1)) == times[1]


def test_combining_days_of_the_month_and_of_the_week_causes_a_warning() -> None:
    assert "first sun" in warn_about(parse_schedule("0 2 1-7 * 0", anchor=NOW))
    assert warn_about(parse_schedule("0 2 * * 0", anchor=NOW)) == ""


def test_a_leap_day_is_found() -> None:
    schedule: Schedule = parse_schedule("0 0 29 2 *", anchor=NOW)
    assert schedule.next_after(NOW) == datetime(2028, 2, 29, tzinfo=UTC)


@given(st.integers(0, 10**9))
def test_durations_are_read_as_they_are_written(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["", "7", "d", "7x", "1h1d", "-1d", "٣d", "9" * 10 + "d", "1000000000w", "1.5h"])
def test_invalid_durations_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_duration(text)
