"""Which log is kept: over random histories of backups and log, no kept backup of the window loses its way to the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.protection.backups import History, KnownBackup, State
from strongroom.protection.logs import MARGIN, count_removable, find_log_start, find_window_start
from strongroom.protection.retention import Rules, decide

START = datetime(2026, 1, 5, 1, tzinfo=UTC)
MANY = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def histories(draw: st.DrawFn) -> History:
    made: list[KnownBackup] = []
    time, parent = START, None
    for number in range(draw(st.integers(1, 25))):
        time += timedelta(hours=draw(st.sampled_from((1, 6, 24, 24, 30, 24 * 7))))
        base = None if parent is None or draw(st.booleans()) else parent
        state = draw(st.sampled_from((State.STORED,) * 5 + (State.FAILED, State.MISSING)))
        took = timedelta(minutes=draw(st.sampled_from((1, 60, 600))))
        made.append(KnownBackup(f"b{number:02}", time, time + took, base, state=state, damaged=draw(st.integers(0, 9)) == 0))
        if state is State.STORED:
            parent = made[-1].id
    return History(made)


rules = st.builds(
    Rules,
    last=st.integers(1, 3),
    within=st.sampled_from([timedelta(0), timedelta(days=2), timedelta(days=9)]),
    weekly=st.integers(0, 3),
)


@MANY
@given(histories(), rules, st.integers(1, 200), st.lists(st.integers(-40, 40), min_size=200, max_size=200))
def test_a_kept_backup_of_the_window_reaches_the_end_of_the_log(
    history: History, wanted: Rules, pieces: int, wrong: list[int]
) -> None:
    """The clock of the log is wrong by up to ten hours, forwards and backwards."""
    now = max(backup.point for backup in history.backups)
    start = find_window_start(history, wanted, now)
    decisions = decide(history, wanted, zone="UTC", now=now, window_start=start)
    kept = {key for key, decision in decisions.items() if decision.is_kept}
    good = sorted((b for b in history.backups if b.id in kept and history.is_good(b)), key=lambda backup: backup.point)
    log_start = find_log_start(history, kept, wanted, now)
    if not good:
        assert log_start is None
        return
    assert log_start is not None
    begin = START - timedelta(days=3)
    step = (now - begin) / pieces
    true = [begin + step * number for number in range(1, pieces + 1)]  # when each segment was written
    shown = [time + timedelta(minutes=15 * wrong[number]) for number, time in enumerate(true)]
    gone = count_removable(pieces, shown.__getitem__, log_start)
    first = true[gone - 1] if gone else begin  # the log that is left begins here
    needed = good if start is None else [b for b in good if b.point > start] + [b for b in good if b.point <= start][-1:]
    assert all(backup.started >= first for backup in needed)
    if start is not None and any(backup.point <= start for backup in good):  # every moment of the window can be restored
        assert any(first <= backup.started and backup.point <= start for backup in good)


@MANY
@given(histories(), rules)
def test_log_is_removed_by_new_backups_and_not_by_time(history: History, wanted: Rules) -> None:
    now = max(backup.point for backup in history.backups)
    everything = {backup.id for backup in history.backups}
    assert find_log_start(history, everything, wanted, now) == find_log_start(
        history, everything, wanted, now + timedelta(days=3650)
    )


def test_the_last_segment_always_stays() -> None:
    times = [START + timedelta(days=number) for number in range(10)]
    assert count_removable(10, times.__getitem__, START + timedelta(days=99)) == 9
    assert count_removable(10, times.__getitem__, START + timedelta(days=4)) == 4
    assert count_removable(10, times.__getitem__, START - MARGIN) == 0
    assert count_removable(0, times.__getitem__, START) == 0


def test_a_backup_that_is_missing_or_damaged_now_keeps_its_log() -> None:
    """Its manifest may come back, and another verification may find it good."""
    days = [START + timedelta(days=number) for number in (0, 7, 14)]
    wanted, everything = Rules(within=timedelta(days=7)), {"a", "b", "c"}
    for change in ({"state": State.MISSING}, {"damaged": True}):
        whole = [KnownBackup(name, time, time + timedelta(hours=1)) for name, time in zip("abc", days, strict=True)]
        history = History([whole[0], replace(whole[1], **change), whole[2]])  # type: ignore[arg-type]
        assert find_log_start(history, everything, wanted, days[2]) == days[0] - MARGIN
        later = [KnownBackup("d", days[2] + timedelta(days=7), days[2] + timedelta(days=7, hours=1))]
        history = History([replace(whole[0], **change), whole[1], whole[2], *later])  # type: ignore[arg-type]
        assert find_log_start(history, everything | {"d"}, wanted, later[0].point) == days[2] - MARGIN, (
            "the window has left it behind"
        )


def test_segments_between_others_with_a_wrong_time_do_not_let_those_before_them_go() -> None:
    times = [START + timedelta(days=number) for number in range(40)]
    for place in range(18, 22):
        times[place] = START - timedelta(days=400)
    assert count_removable(40, times.__getitem__, START + timedelta(days=5)) == 5
