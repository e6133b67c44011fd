"""The recovery window: what is proven complete, and every gap with its cause."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.archive import Gap, SegmentWriter, Window, find_window, load_log
from strongroom.sections import Artifact
from strongroom.storage import Store
from support.archives import LOG, LOST, append, begin, open_directory, precedes

SECOND = 10**6


@pytest.fixture
def store(place: Path) -> Store:
    return open_directory(place / "store")


def window(store: Store) -> Window:
    contents, damaged = load_log(store, LOG)
    assert not damaged
    return find_window(contents, precedes)


def spans(store: Store) -> list[tuple[str, str]]:
    return [(interval.begin, interval.end) for interval in window(store).intervals]


@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=7), data=st.data())
@settings(max_examples=25, deadline=None)
def test_exactly_what_is_lost_is_missing_in_the_window(sizes: list[int], data: st.DataObject) -> None:
    lost = data.draw(st.dictionaries(st.integers(0, len(sizes) - 1), st.sampled_from(["record", "data", "short", "swapped"])))
    with tempfile.TemporaryDirectory() as top:
        store = open_directory(Path(top))
        append(store, begin(store), [b"x" * size for size in sizes])
        series = load_log(store, LOG)[0][0]
        records = [store.get(LOG.series(0).record_of(number)) for number in range(len(sizes))]
        for number, kind in lost.items():
            segment = series.segments[number].record
            if kind == "record":
                store.delete([segment.series.record_of(number)])
            elif kind == "swapped":
                store.put(segment.series.record_of(number), records[(number + 1) % len(sizes)])
            elif kind == "data":
                store.delete([segment.data_key])
            else:
                store.put(segment.data_key, b"")
        if len(sizes) == 1 and lost.get(0) == "swapped":
            lost = {}
        restorable = {at for each in window(store).intervals for at in range(int(each.begin), int(each.end))}
        bounds = [sum(sizes[:number]) for number in range(len(sizes) + 1)]
        assert restorable == {at for n in range(len(sizes)) if n not in lost for at in range(bounds[n], bounds[n + 1])}
        shown = window(store)
        assert all(gap.cause for gap in shown.gaps)
        unlisted = [n for n in lost if all(lost.get(m) == "record" for m in range(n, len(sizes)))]
        covered = {at for gap in shown.gaps for at in range(int(gap.after or 0), int(gap.before or bounds[-1]))}
        assert covered | restorable >= {
            at for at in range(bounds[-1]) if not any(bounds[n] <= at < bounds[n + 1] for n in unlisted)
        }
        assert not covered & restorable


def test_a_series_that_continues_another_one_is_one_interval(store: Store) -> None:
    append(store, begin(store), [b"x" * 10, b"x" * 10, b"x" * 10])
    append(store, begin(store, 8, seam=(0, 15)), [b"x" * 10])
    append(store, begin(store, 18, seam=(1, 18)), [b"x" * 10])
    shown = window(store)
    assert shown.gaps == ()
    abandoned, current = shown.intervals
    assert [(piece.series, piece.first, piece.stop) for piece in abandoned.pieces] == [(0, 0, 3)]
    assert [(piece.series, piece.first, piece.stop, piece.end) for piece in current.pieces] == [
        (0, 0, 2, "15"),
        (1, 0, 1, "18"),
        (2, 0, 1, "28"),
    ]
    assert (current.begin_time, current.end_time) == (0, 28 * SECOND)


def test_a_seam_that_is_not_stored_is_a_gap(store: Store) -> None:
    append(store, begin(store), [b"x" * 10])
    append(store, begin(store, 10, seam=(0, 11), started=12 * SECOND), [b"x"])
    append(store, begin(store, 11, seam=(2, 11)), [b"x"])
    append(store, begin(store, 11, seam=(9, 11)), [b"x"])
    shown = window(store)
    assert spans(store) == [("0", "10"), ("10", "11"), ("11", "12"), ("11", "12")]
    assert [(gap.series, gap.after, gap.before) for gap in shown.gaps] == [(1, "10", "10"), (2, "11", "11"), (3, "12", "11")]
    assert shown.gaps[0].cause == "the end of series 0, which series 1 continues, is not stored"


def test_a_gap_between_series_has_the_cause_that_the_server_showed(store: Store) -> None:
    append(store, begin(store), [b"x" * 10])
    append(store, begin(store, 20, started=25 * SECOND), [b"x" * 10])
    assert window(store).gaps == (Gap(1, "10", "20", 10 * SECOND, 20 * SECOND, LOST),)


def test_the_window_of_an_idle_server_advances(store: Store) -> None:
    head = append(store, begin(store), [b"x" * 10])
    with SegmentWriter(store, head, Artifact()) as writer:
        writer.cover(60 * SECOND)
        assert writer.wait(30)
    assert [interval.end_time for interval in window(store).intervals] == [60 * SECOND]
    append(store, head, [b"x"])
    assert [interval.end_time for interval in window(store).intervals] == [11 * SECOND], "more log came after it"


def test_a_name_in_the_store_does_not_keep_it_busy(store: Store) -> None:
    append(store, begin(store), [b"x" * 10])
    store.put(LOG.series(0).record_of(10**10 - 1), b"{}")
    store.put(LOG.series(10**8 - 1).series, b"{}")
    contents, damaged = load_log(store, LOG)
    assert list(damaged) == [10**8 - 1]
    shown = find_window(contents, precedes)
    assert [(interval.begin, interval.end) for interval in shown.intervals] == [("0", "10")]
    assert [(gap.after, gap.before) for gap in shown.gaps] == [("10", None)]
