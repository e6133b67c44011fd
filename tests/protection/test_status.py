"""The state of a database: every condition with its level, and what a monitoring system reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from strongroom.protection.backups import History, KnownBackup, State
from strongroom.protection.status import EXIT_CODES, Condition, Level, Limits, Pause, Subject, judge, summarize, worst

NOW = datetime(2026, 11, 30, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)


def make_backup(name: str, age: timedelta, **fields: object) -> KnownBackup:
    at = NOW - age
    return replace(KnownBackup(name, at, at, verified=True), **fields)  # type: ignore[arg-type]


GOOD = Subject(
    name="orders",
    created=NOW - timedelta(days=30),
    history=History([make_backup("b1", 3 * HOUR)]),
    limits=Limits(max_age=26 * HOUR, max_proof_age=timedelta(days=8)),
    facts_at=NOW,
    store="swift",
)


def states(subject: Subject) -> list[tuple[Condition, Level]]:
    return [(finding.condition, finding.level) for finding in judge(subject, NOW)]


def test_a_fresh_verified_backup_is_protected() -> None:
    assert states(GOOD) == [(Condition.PROTECTED, Level.OK)]
    assert "3h old" in judge(GOOD, NOW)[0].message


def test_each_condition_has_its_level() -> None:
    old = History([make_backup("b1", 30 * HOUR)])
    lost = History([make_backup("b0", 50 * HOUR), make_backup("b1", 3 * HOUR, state=State.MISSING)])
    unverified = History([make_backup("b1", HOUR, verified=False)])
    assert states(replace(GOOD, limits=None)) == [(Condition.UNPROTECTED, Level.CRITICAL)]
    assert states(replace(GOOD, history=History([]))) == [(Condition.UNPROTECTED, Level.CRITICAL)]
    assert states(replace(GOOD, history=History([]), created=NOW - HOUR)) == [(Condition.UNPROTECTED, Level.WARNING)]
    assert states(replace(GOOD, history=old)) == [(Condition.LATE, Level.CRITICAL)]
    assert states(replace(GOOD, facts_at=NOW - HOUR)) == [(Condition.UNKNOWN, Level.UNKNOWN)]
    assert states(replace(GOOD, facts_at=None)) == [(Condition.UNKNOWN, Level.UNKNOWN)]
    assert states(replace(GOOD, last_error="the disk is full")) == [(Condition.FAILING, Level.WARNING)]
    assert states(replace(GOOD, history=unverified)) == [(Condition.UNVERIFIED, Level.WARNING)]
    remedies = {judge(replace(GOOD, policy="gold", history=history), NOW)[0].remedy for history in (old, unverified)}
    assert remedies == {"strongroom policy run gold --instance orders", "strongroom backup verify b1 --prepare"}
    assert states(replace(GOOD, history=lost)) == [(Condition.DAMAGED, Level.CRITICAL), (Condition.LATE, Level.CRITICAL)]


def test_a_newer_full_ends_the_damage_and_a_damaged_parent_ends_its_children() -> None:
    damaged = make_backup("b0", 5 * HOUR, damaged=True)
    child = make_backup("b1", 4 * HOUR, parent="b0")
    found = judge(replace(GOOD, history=History([damaged, child])), NOW)
    assert [finding.condition for finding in found] == [Condition.DAMAGED, Condition.UNPROTECTED]
    assert "Nothing else can be restored" in found[0].remedy
    assert states(replace(GOOD, history=History([damaged, child, make_backup("b2", HOUR)]))) == [(Condition.PROTECTED, Level.OK)]


def test_a_pause_is_fine_until_it_is_forgotten_and_hides_no_lateness() -> None:
    pause = Pause(since=NOW - HOUR, by="eve", reason="migration", until=NOW + HOUR)
    assert states(replace(GOOD, pause=pause)) == [(Condition.PAUSED, Level.OK)]
    assert states(replace(GOOD, pause=replace(pause, until=None))) == [(Condition.PAUSED, Level.WARNING)]
    assert states(replace(GOOD, pause=replace(pause, since=NOW - timedelta(days=8)))) == [(Condition.PAUSED, Level.WARNING)]
    assert states(replace(GOOD, pause=replace(pause, until=NOW))) == [(Condition.PROTECTED, Level.OK)]
    late = replace(GOOD, pause=pause, history=History([make_backup("b1", 30 * HOUR)]))
    assert states(late)[0] == (Condition.LATE, Level.CRITICAL)


def test_an_old_proof_is_not_enough() -> None:
    history = History([make_backup("b0", timedelta(days=9)), make_backup("b1", HOUR, verified=False)])
    assert states(replace(GOOD, history=history)) == [(Condition.UNVERIFIED, Level.WARNING)]
    assert states(replace(GOOD, history=history, limits=Limits(26 * HOUR, needs_proof=False))) == [
        (Condition.PROTECTED, Level.OK)
    ]


def test_a_backup_from_the_future_proves_nothing() -> None:
    assert states(replace(GOOD, history=History([make_backup("b1", -HOUR)])))[0] == (Condition.UNPROTECTED, Level.CRITICAL)


def test_the_worst_level_decides_the_exit_status() -> None:
    assert worst([Level.OK, Level.WARNING, Level.UNKNOWN, Level.CRITICAL]) is Level.CRITICAL
    assert worst([Level.OK, Level.WARNING, Level.UNKNOWN]) is Level.UNKNOWN
    assert worst([]) is Level.OK
    assert [EXIT_CODES[level] for level in Level] == [0, 1, 2, 3]


def test_the_first_line_for_monitoring() -> None:
    late = judge(replace(GOOD, history=History([make_backup("b1", 30 * HOUR)])), NOW)[0]
    fine = judge(GOOD, NOW)[0]
    assert summarize([late, fine]).startswith("CRITICAL: 1 late of 2 | damaged=0;")
    assert summarize([fine]).startswith("OK: 1 protected |")
