"""Which run is due: meets of full and incremental, lateness, obstacles, blackouts, clocks that jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import InvalidRequest
from strongroom.protection.runs import (
    Due,
    Miss,
    Missed,
    Plan,
    cover_day,
    find_due,
    make_job_id,
    make_run_id,
    parse_blackout,
    spread_offset,
)
from strongroom.protection.schedule import parse_schedule

SUNDAY = datetime(2026, 11, 29, 1, tzinfo=UTC)  # 02:00 in Vienna
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
GOLD = Plan(
    full=parse_schedule("sun 02:00", zone="Europe/Vienna", anchor=SUNDAY),
    incremental=parse_schedule("daily 02:00", zone="Europe/Vienna", anchor=SUNDAY),
)


def test_a_full_and_an_incremental_due_together_are_one_full() -> None:
    due = find_due(GOLD, handled=SUNDAY - DAY, now=SUNDAY)
    assert (due.run, due.kind, due.missed) == (SUNDAY, "full", ())
    assert due.wake == SUNDAY + DAY
    monday = find_due(GOLD, handled=due.handled, now=SUNDAY + DAY)
    assert (monday.run, monday.kind) == (SUNDAY + DAY, "incremental")


def test_nothing_is_due_twice() -> None:
    due = find_due(GOLD, handled=SUNDAY, now=SUNDAY + HOUR)
    assert due == Due(None, "incremental", (), SUNDAY, SUNDAY + DAY)


def test_a_run_begins_with_the_offset_of_its_database() -> None:
    early = find_due(GOLD, handled=SUNDAY - DAY, now=SUNDAY + MINUTE, offset=2 * MINUTE)
    assert (early.run, early.wake) == (None, SUNDAY + 2 * MINUTE)
    assert find_due(GOLD, handled=SUNDAY - DAY, now=SUNDAY + 2 * MINUTE, offset=2 * MINUTE).run == SUNDAY


def test_one_run_replaces_many_missed_ones_which_are_one_row() -> None:
    due = find_due(GOLD, handled=SUNDAY - 3 * DAY, now=SUNDAY + 3 * DAY + HOUR)
    assert due.run == SUNDAY + 3 * DAY
    assert due.kind == "full", "the full of Sunday is among them"
    assert due.missed == (Missed(SUNDAY - 2 * DAY, SUNDAY + 2 * DAY, 5, Miss.SERVICE_DOWN),)


def test_a_late_run_is_skipped_if_the_next_is_near() -> None:
    due = find_due(GOLD, handled=SUNDAY - DAY, now=SUNDAY + DAY - 2 * HOUR)
    assert due.run is None
    assert due.missed == (Missed(SUNDAY, SUNDAY, 1, Miss.SERVICE_DOWN),)
    assert due.wake == SUNDAY + DAY
    assert find_due(GOLD, handled=SUNDAY - DAY, now=SUNDAY + DAY - 3 * HOUR).run == SUNDAY


@pytest.mark.parametrize("obstacle", list(Miss))
def test_an_obstacle_is_recorded_and_a_skipped_full_comes_next(obstacle: Miss) -> None:
    due = find_due(GOLD, handled=SUNDAY - DAY, now=SUNDAY, obstacle=obstacle)
    assert (due.run, due.kind) == (None, "full")
    assert due.missed == (Missed(SUNDAY, SUNDAY, 1, obstacle),)
    assert find_due(GOLD, handled=due.handled, now=SUNDAY + DAY, full_owed=True).kind == "full"


def test_a_run_in_a_blackout_waits_for_its_end() -> None:
    plan = Plan(None, GOLD.incremental, blackouts=(parse_blackout("01:00-04:00", "Europe/Vienna"),))
    waiting = find_due(plan, handled=SUNDAY - DAY, now=SUNDAY)
    assert (waiting.run, waiting.missed, waiting.wake) == (None, (), SUNDAY + 2 * HOUR)
    assert find_due(plan, handled=waiting.handled, now=SUNDAY + 2 * HOUR).run == SUNDAY


def test_a_run_whose_blackout_lasts_until_the_next_is_missed() -> None:
    hourly = Plan(None, parse_schedule("hourly", anchor=SUNDAY), blackouts=(parse_blackout("22:00-04:00", "UTC"),))
    due = find_due(hourly, handled=SUNDAY - HOUR, now=SUNDAY)
    assert due.run is None
    assert due.missed == (Missed(SUNDAY, SUNDAY, 1, Miss.BLACKOUT),)


def test_a_clock_that_was_a_year_ahead_does_not_stop_backups() -> None:
    due = find_due(GOLD, handled=SUNDAY + 365 * DAY, now=SUNDAY - HOUR)
    assert due.wake == SUNDAY
    assert find_due(GOLD, handled=due.handled, now=SUNDAY).run == SUNDAY


def test_a_clock_that_goes_back_repeats_nothing() -> None:
    assert find_due(GOLD, handled=SUNDAY, now=SUNDAY - 5 * MINUTE).run is None


def test_ten_years_without_service_are_one_row_and_quick() -> None:
    plan = Plan(parse_schedule("monthly", anchor=SUNDAY), parse_schedule("*/5 * * * *", anchor=SUNDAY))
    due = find_due(plan, handled=SUNDAY - 3650 * DAY, now=SUNDAY)
    assert (due.run, due.kind) == (SUNDAY, "full"), "many fulls are among them"
    assert len(due.missed) == 1
    assert due.missed[0].first == SUNDAY - 3650 * DAY + 5 * MINUTE


def test_no_schedule_is_never_due() -> None:
    assert find_due(Plan(None, None), handled=SUNDAY, now=SUNDAY + DAY).wake is None


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12))
def test_every_nominal_time_is_run_or_recorded_once(hours: list[int]) -> None:
    """Whenever the service looks, and however long it was down."""
    handled, now, seen = SUNDAY - HOUR, SUNDAY - HOUR, 0
    for step in hours:
        now += step * HOUR
        due = find_due(GOLD, handled=handled, now=now)
        seen += (due.run is not None) + sum(missed.count for missed in due.missed)
        assert due.handled >= handled
        handled = due.handled
    assert seen == len([day for day in range(60) if SUNDAY + day * DAY <= now])


def test_offsets_are_stable_and_even() -> None:
    spread = timedelta(minutes=5)
    offsets = [spread_offset("gold", f"db{number}", spread) for number in range(1000)]
    assert offsets == [spread_offset("gold", f"db{number}", spread) for number in range(1000)]
    assert all(timedelta(0) <= offset < spread for offset in offsets)
    assert all(150 < sum(minute * MINUTE <= offset < (minute + 1) * MINUTE for offset in offsets) < 250 for minute in range(5))
    assert spread_offset("gold", "db1", timedelta(0)) == timedelta(0)


def test_ids_are_derived_from_schedule_and_nominal_time() -> None:
    run = make_run_id("gold", "db1", SUNDAY)
    assert run == make_run_id("gold", "db1", SUNDAY.astimezone(UTC))
    others = {make_run_id("gold", "db2", SUNDAY), make_run_id("silver", "db1", SUNDAY), make_run_id("gold", "db1", SUNDAY + HOUR)}
    assert run not in others
    assert len({make_job_id(run, attempt) for attempt in (1, 2, 3)}) == 3


@pytest.mark.parametrize("texts", [(), ("00:01-24:00",), ("12:00-00:00", "22:00-11:59"), ("08:00-18:00", "09:00-10:00")])
def test_blackouts_that_leave_a_time(texts: tuple[str, ...]) -> None:
    assert not cover_day([parse_blackout(text, "UTC") for text in texts])


def test_a_blackout_over_midnight() -> None:
    blackout = parse_blackout("22:00-06:00", "UTC")
    midnight = datetime(2026, 11, 29, tzinfo=UTC)
    assert blackout.end_after(midnight + 23 * HOUR) == midnight + 30 * HOUR
    assert blackout.end_after(midnight + 5 * HOUR) == midnight + 6 * HOUR
    assert blackout.end_after(midnight + 6 * HOUR) is None


@pytest.mark.parametrize("text", ["", "8-18", "08:00", "08:00-08:00", "25:00-26:00", "08:60-09:00", "a-b", "08:00-18:00-20:00"])
def test_invalid_ranges_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_blackout(text, "UTC")


def test_times_of_a_plan_are_ascending() -> None:
    instant, times = SUNDAY - DAY, []
    for _ in range(20):
        found = GOLD.next_after(instant)
        assert found is not None
        instant = found[0]
        times.append(instant)
    assert all(earlier < later for earlier, later in pairwise(times))
