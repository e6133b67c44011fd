"""Properties of retention over random histories, and the worked example of docs/policies.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.errors import InvalidRequest
from strongroom.protection.backups import History, KnownBackup, State
from strongroom.protection.retention import Decision, Rules, decide, needs_confirmation, order_removals

START = datetime(2026, 1, 5, 1, tzinfo=UTC)
MANY = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
PERIODS: dict[str, Callable[[datetime], object]] = {
    "hourly": lambda t: (t.date(), t.hour, t.utcoffset()),
    "daily": lambda t: t.date(),
    "weekly": lambda t: t.isocalendar()[:2],
    "monthly": lambda t: (t.year, t.month),
    "yearly": lambda t: t.year,
}
GOLD = Rules(within=timedelta(days=7), daily=14, weekly=8, monthly=12)


def make_backup(name: str, started: datetime, parent: str | None = None, **fields: object) -> KnownBackup:
    return KnownBackup(name, started, started + timedelta(minutes=10), parent, **fields)  # type: ignore[arg-type]


@st.composite
def histories(draw: st.DrawFn, *, faults: bool = True) -> list[KnownBackup]:
    made: list[KnownBackup] = []
    time, parent = START, None
    for number in range(draw(st.integers(1, 26))):
        time += timedelta(hours=draw(st.sampled_from((1, 6, 12, 24, 24, 24, 30, 24 * 7, 24 * 31))))
        is_full = parent is None or draw(st.integers(0, 4)) == 0
        others = (State.FAILED, State.RUNNING, State.MISSING) if faults else ()
        state = draw(st.sampled_from((State.STORED,) * 6 + others))
        damaged = faults and draw(st.integers(0, 9)) == 0
        backup = make_backup(
            f"b{number:02}", time, None if is_full else parent, state=state, damaged=damaged, verified=draw(st.booleans())
        )
        made.append(backup)
        if state is State.STORED:
            parent = backup.id
    return made


zones = st.sampled_from(["UTC", "Europe/Vienna", "Australia/Lord_Howe"])
rules = st.builds(
    Rules,
    last=st.integers(0, 3),
    within=st.sampled_from([timedelta(0), timedelta(days=2), timedelta(days=9)]),
    hourly=st.integers(0, 3),
    daily=st.integers(0, 5),
    weekly=st.integers(0, 4),
    monthly=st.integers(0, 4),
    yearly=st.integers(0, 2),
)


def keep(backups: list[KnownBackup], wanted: Rules, zone: str = "UTC", now: datetime | None = None) -> list[KnownBackup]:
    decisions = decide(History(backups), wanted, zone=zone, now=now or max(b.point for b in backups))
    return [backup for backup in backups if decisions[backup.id].is_kept]


def ids(backups: list[KnownBackup]) -> set[str]:
    return {backup.id for backup in backups}


@MANY
@given(histories(), rules, zones)
def test_all_ancestors_of_a_kept_backup_are_kept(backups: list[KnownBackup], wanted: Rules, zone: str) -> None:
    known = ids(backups)
    kept = ids(keep(backups, wanted, zone))
    assert all(b.parent is None or b.parent in kept or b.parent not in known for b in backups if b.id in kept)


@MANY
@given(histories(), rules, zones)
def test_backups_that_a_rule_keeps_are_restorable_after_the_sweep(backups: list[KnownBackup], wanted: Rules, zone: str) -> None:
    before, after = History(backups), History(keep(backups, wanted, zone))
    good = sorted((b for b in before.backups if before.is_good(b)), key=lambda b: b.started)
    left = [b for b in after.backups if after.is_good(b)]
    for name, find_period in PERIODS.items():
        count = getattr(wanted, name)
        promised = list(dict.fromkeys(find_period(b.started.astimezone(ZoneInfo(zone))) for b in good))
        found = {find_period(b.started.astimezone(ZoneInfo(zone))) for b in left}
        assert not count or set(promised[-count:]) <= found
    assert ids(good[len(good) - wanted.last :] if wanted.last else []) <= ids(left)
    if good:
        assert good[-1].id in ids(left)


@MANY
@given(histories(), rules, zones)
def test_a_higher_number_removes_nothing_more(backups: list[KnownBackup], wanted: Rules, zone: str) -> None:
    kept = ids(keep(backups, wanted, zone))
    for name in (*PERIODS, "last"):
        assert kept <= ids(keep(backups, replace(wanted, **{name: getattr(wanted, name) + 1}), zone))


@MANY
@given(histories(), rules, zones)
def test_a_second_sweep_removes_nothing(backups: list[KnownBackup], wanted: Rules, zone: str) -> None:
    kept = keep(backups, wanted, zone)
    if kept:
        assert ids(keep(kept, wanted, zone, now=max(b.point for b in backups))) == ids(kept)


@MANY
@given(histories(faults=False), rules, zones)
def test_sweeps_after_every_backup_keep_the_same_as_one_at_the_end(backups: list[KnownBackup], wanted: Rules, zone: str) -> None:
    backups = [replace(backup, verified=False) for backup in backups]
    kept: list[KnownBackup] = []
    for backup in backups:
        assert backup.parent is None or backup.parent in ids(kept)
        kept = keep([*kept, backup], wanted, zone)
    assert ids(kept) == ids(keep(backups, wanted, zone))


@MANY
@given(histories(), rules)
def test_time_alone_makes_no_good_backup_expire(backups: list[KnownBackup], wanted: Rules) -> None:
    """Except a parent that no rule keeps: it stays as long as the leftovers of a failed incremental that is based on it."""
    history, end = History(backups), max(b.point for b in backups)
    later = end + timedelta(days=400)
    good = {b.id for b in backups if history.is_good(b)}
    before, after = ids(keep(backups, wanted, now=end)) & good, ids(keep(backups, wanted, now=later)) & good
    parents = {link.id for b in backups if b.state is State.FAILED for link in history.list_chain(b)}
    assert after <= before <= after | parents
    whole = [b for b in backups if b.state is not State.FAILED]
    assert not whole or ids(keep(whole, wanted, now=end)) & good == ids(keep(whole, wanted, now=later)) & good


@MANY
@given(histories(), rules)
def test_a_failed_backup_makes_no_other_expire(backups: list[KnownBackup], wanted: Rules) -> None:
    failed = make_backup("x", backups[-1].started + timedelta(hours=1), state=State.FAILED)
    assert ids(keep(backups, wanted)) <= ids(keep([*backups, failed], wanted, now=max(b.point for b in backups)))


@MANY
@given(histories(), rules)
def test_an_interrupted_sweep_leaves_the_rest_restorable(backups: list[KnownBackup], wanted: Rules) -> None:
    history = History(backups)
    decisions = decide(history, wanted, zone="UTC", now=max(b.point for b in backups))
    good = {b.id for b in backups if history.is_good(b)}
    left = list(backups)
    for gone in order_removals(history, decisions):
        left.remove(gone)
        rest = History(left)
        assert all(rest.is_good(b) for b in left if b.id in good)


@MANY
@given(histories(), rules, st.sets(st.integers(0, 25)))
def test_holds_and_leases_keep_the_whole_chain(backups: list[KnownBackup], wanted: Rules, chosen: set[int]) -> None:
    history = History(backups)
    held = {f"b{number:02}" for number in chosen}
    for names in ({"holds": held}, {"leases": held}):
        decisions = decide(history, wanted, zone="UTC", now=max(b.point for b in backups), **names)
        for backup in backups:
            if backup.id in held:
                assert all(decisions[link.id].is_kept for link in history.list_chain(backup))


def make_month(first: datetime = datetime(2026, 10, 31, 1, tzinfo=UTC), days: int = 30) -> list[KnownBackup]:
    made: list[KnownBackup] = []
    for day in range(days):
        time = first + timedelta(days=day)
        is_full = not made or time.weekday() == 6
        made.append(make_backup(f"{time:%b %d}", time, None if is_full else made[-1].id, verified=day < days - 3))
    return made


def decide_month(backups: list[KnownBackup]) -> dict[str, Decision]:
    return decide(History(backups), GOLD, zone="Europe/Vienna", now=backups[-1].point)


def test_the_example_in_the_documentation() -> None:
    decisions = decide_month(make_month())
    expired = [name for name, decision in decisions.items() if not decision.is_kept]
    assert expired == [f"Nov {day:02}" for day in (*range(2, 8), *range(9, 15))]
    assert decisions["Oct 31"].reasons == ("monthly 2 of 12",)
    assert decisions["Nov 01"].reasons == ("weekly 5 of 8",)
    assert decisions["Nov 15"].reasons == ("weekly 3 of 8", "needed by Nov 21")
    assert decisions["Nov 16"].reasons == ("daily 14 of 14", "needed by Nov 21")
    assert decisions["Nov 22"].reasons == ("daily 8 of 14", "weekly 2 of 8", "needed by Nov 28")
    assert decisions["Nov 26"].reasons == ("newest verified", "within 7d", "daily 4 of 14", "needed by Nov 28")
    assert decisions["Nov 29"].reasons == ("newest good", "within 7d", "daily 1 of 14", "weekly 1 of 8", "monthly 1 of 12")


def draw_month(backups: list[KnownBackup], decisions: dict[str, Decision]) -> str:
    """One line for each chain: F full, i incremental, parentheses around what expires."""
    lines: list[str] = []
    for backup in backups:
        cell = f"{'i' if backup.parent else 'F'}{backup.started.day}"
        cell = f"{cell:^7}" if decisions[backup.id].is_kept else f"{f'({cell})':^7}"
        if backup.parent is None:
            lines.append(f"{backup.started:%b} ")
        lines[-1] += cell
    return "\n".join(line.rstrip() for line in lines)


def test_the_drawing_in_the_documentation_matches_the_rules() -> None:
    backups = make_month()
    page = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text()
    assert draw_month(backups, decide_month(backups)) in page


def test_the_brake_stops_a_mass_removal_but_not_a_steady_state() -> None:
    for wanted in (GOLD, Rules(last=1), Rules(last=2), Rules(daily=7), Rules(weekly=4)):
        kept: list[KnownBackup] = []
        for backup in make_month(days=200):
            kept.append(backup)
            history = History(kept)
            decisions = decide(history, wanted, zone="UTC", now=backup.point)
            assert not needs_confirmation(history, order_removals(history, decisions), max_chain=7)
            kept = [one for one in kept if decisions[one.id].is_kept]
    history = History(make_month(days=60))
    decisions = decide(history, Rules(last=1), zone="UTC", now=history.backups[-1].point)
    assert needs_confirmation(history, order_removals(history, decisions), max_chain=7)


def test_a_chain_of_ten_thousand_links_is_decided_quickly() -> None:
    backups = [
        make_backup(f"{n:05}", START + timedelta(hours=n), f"{n - 1:05}" if n else None, verified=True) for n in range(10_000)
    ]
    history = History(backups)
    decisions = decide(history, Rules(last=1), zone="UTC", now=backups[-1].point)
    assert all(decision.is_kept for decision in decisions.values())
    assert history.count_ancestors(backups[-1]) == 9_999


def test_imported_damaged_running_and_future_backups_are_never_removed() -> None:
    far = START + timedelta(days=100)
    backups = [
        make_backup("imported", START, imported=True),
        make_backup("damaged", START + timedelta(days=1), damaged=True),
        make_backup("running", START + timedelta(days=2), state=State.RUNNING),
        make_backup("failed", START + timedelta(days=3), state=State.FAILED),
        make_backup("lost", START + timedelta(days=3), state=State.MISSING),
        make_backup("good", START + timedelta(days=50)),
        make_backup("future", far + timedelta(days=1)),
    ]
    assert ids(keep(backups, Rules(last=1), now=far)) == ids(backups) - {"failed"}


def test_a_window_of_a_log_archive_keeps_the_backup_before_its_start() -> None:
    backups = [make_backup(f"d{day}", START + timedelta(days=day)) for day in range(10)]
    history = History(backups)
    start = START + timedelta(days=4, hours=12)
    decisions = decide(history, Rules(last=1), zone="UTC", now=backups[-1].point, window_start=start)
    assert {name for name, decision in decisions.items() if decision.is_kept} == {"d4", "d9"}
    assert decisions["d4"].reasons == ("start of window",)


def test_chains_with_a_cycle_or_a_missing_parent_are_not_good() -> None:
    backups = [
        make_backup("a", START, "b"),
        make_backup("b", START, "a"),
        make_backup("c", START, "nowhere"),
        make_backup("d", START),
    ]
    history = History(backups)
    assert [backup.id for backup in history.backups if history.is_good(backup)] == ["d"]
    assert ids(keep(backups, Rules(last=1))) == {"a", "b", "c", "d"}


@pytest.mark.parametrize("wanted", [Rules(), Rules(last=-1, daily=2), Rules(within=timedelta(days=-1))])
def test_rules_that_keep_nothing_are_refused(wanted: Rules) -> None:
    with pytest.raises(InvalidRequest):
        wanted.require_any()
