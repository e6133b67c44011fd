"""The beginning of an archive is removed: what is left is complete, wherever the removal is interrupted."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.archive import Removed, SegmentReader, delete_log, find_window, load_head, load_log, remove_trimmed, trim_log
from strongroom.errors import ArtifactMissing
from strongroom.storage import Store
from support.archives import LOG, append, begin, open_directory, precedes


class Killed(BaseException):
    """The process dies."""


class Dying:
    """A store of a process that dies before the given number of objects is removed."""

    def __init__(self, store: Store, left: int) -> None:
        self._store, self._left = store, left

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            if not self._left:
                raise Killed
            self._left -= 1
            self._store.delete([key])


def _spans(store: Store) -> list[tuple[str, str]]:
    contents, damaged = load_log(store, LOG)
    assert not damaged
    window = find_window(contents, precedes)
    assert not window.gaps
    return [(interval.begin, interval.end) for interval in window.intervals]


@given(at=st.tuples(st.integers(0, 2), st.integers(0, 3)), killed=st.integers(0, 25))
@settings(max_examples=40, deadline=None)
def test_a_removal_that_is_cut_off_anywhere_shows_no_damage(at: tuple[int, int], killed: int) -> None:
    with tempfile.TemporaryDirectory() as top:
        store = open_directory(Path(top))
        end = 0
        for number in range(3):  # each continues the one before it
            head = begin(store, end, seam=(number - 1, end) if number else None)
            end = int(append(store, head, [b"x", b"yy", b"zzz", b"!"]).position)
        series, first = at
        position = 7 * series + (0, 1, 3, 6)[first]
        trim_log(store, LOG, series, first, at=0)
        assert _spans(store) == [(str(position), "21")]
        try:
            remove_trimmed(Dying(store, killed), LOG)  # type: ignore[arg-type]
        except Killed:
            assert _spans(store) == [(str(position), "21")]
        remove_trimmed(store, LOG)
        assert remove_trimmed(store, LOG) == Removed(0, 0)
        assert _spans(store) == [(str(position), "21")]
        trim_log(store, LOG, 0, 0, at=0)  # never back
        assert _spans(store) == [(str(position), "21")]
        reader = SegmentReader(store, LOG.series(series))
        assert b"".join(reader.read(segment) for segment in reader.segments(first, 4)) == b"xyyzzz!"[position - 7 * series :]
        append(store, load_head(store, LOG.series(2)), [b"more"])
        assert _spans(store) == [(str(position), "25")]
        delete_log(store, LOG)
        assert not [stat for stat in store.list(LOG.prefix) if stat.key]


def test_damage_after_the_beginning_is_still_shown(place: Path) -> None:
    store = open_directory(place / "store")
    append(store, begin(store), [b"a", b"b", b"c", b"d"])
    trim_log(store, LOG, 0, 1, at=0)
    store.delete([LOG.series(0).record_of(2)])
    window = find_window(load_log(store, LOG)[0], precedes)
    assert [(interval.begin, interval.end) for interval in window.intervals] == [("1", "2"), ("3", "4")]
    assert ["segment 2" in gap.cause for gap in window.gaps] == [True]


def test_a_beginning_that_does_not_exist_is_refused(place: Path) -> None:
    store = open_directory(place / "store")
    append(store, begin(store), [b"a"])
    with pytest.raises(ArtifactMissing):
        trim_log(store, LOG, 0, 5, at=0)
    with pytest.raises(ArtifactMissing):
        trim_log(store, LOG, 4, 0, at=0)
    assert _spans(store) == [("0", "1")]


def test_only_keys_of_the_archive_are_removed(place: Path) -> None:
    store = open_directory(place / "store")
    append(store, begin(store), [b"a", b"b"])
    strange = f"{LOG.series(0).data}/0000000000-readme"
    store.put(strange, b"")
    trim_log(store, LOG, 0, 1, at=0)
    assert remove_trimmed(store, LOG).objects == 2
    assert store.get(strange) == b""
