"""The times of the transactions of a segment, as text."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.archive.times import Times, read_times
from strongroom.errors import ArtifactCorrupt


@given(st.lists(st.integers(-(2**50), 2**50), max_size=50).map(sorted))
def test_times_are_read_as_they_were_written(times: list[int]) -> None:
    written = Times()
    for time in times:
        written.add(time)
    assert list(read_times(str(written), times[0] if times else 0)) == times


def test_times_that_go_back_count_as_equal() -> None:
    written = Times()
    for time in (10, 5, 12):
        written.add(time)
    assert list(read_times(str(written), 10)) == [10, 10, 12]


def test_a_second_takes_three_bytes() -> None:
    written = Times()
    for number in range(1000):
        written.add(number * 1_000_000)
    assert len(base64.b64decode(str(written))) < 3000


@given(st.one_of(st.text(max_size=40), st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode())))
def test_damaged_times_are_refused_or_in_order(text: str) -> None:
    try:
        times = list(read_times(text, 0))
    except ArtifactCorrupt:
        return
    assert times == sorted(times)


@pytest.mark.parametrize("data", [b"\x80", b"\xff" * 9 + b"\x7f", b"\x00\x80"])
def test_damage_is_an_error(data: bytes) -> None:
    with pytest.raises(ArtifactCorrupt, match="damaged"):
        read_times(base64.b64encode(data).decode(), 0)
