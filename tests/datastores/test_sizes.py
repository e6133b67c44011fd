"""Sizes are measured as often as a small share of a core allows."""

from __future__ import annotations

from pathlib import Path

from strongroom.datastores.toolkit.sizes import SHARE, Sizes


class Meter:
    """A clock, the processor time that was used, and a measure that uses some."""

    def __init__(self) -> None:
        self.now = self.used = 0.0
        self.measured = 0

    def measure(self, _place: Path) -> int:
        self.measured += 1
        self.used += 0.01
        return self.measured


def test_many_directories_cost_no_more_than_one_share(tmp_path: Path) -> None:
    meter = Meter()
    sizes = Sizes(clock=lambda: meter.now, cost=lambda: meter.used)
    places = [tmp_path / str(number) for number in range(10)]
    for place in places:
        place.mkdir()
    for second in range(1000):
        meter.now = float(second)
        for place in places:
            sizes.size(place, meter.measure)
    assert meter.used <= 1.2 * SHARE * 1000 + 0.01 * len(places)
    assert meter.measured >= 9 * len(places)


def test_a_directory_in_the_place_of_another_is_measured_at_once(tmp_path: Path) -> None:
    meter = Meter()
    sizes = Sizes(clock=lambda: meter.now, cost=lambda: meter.used)
    place = tmp_path / "data"
    place.mkdir()
    assert [sizes.size(place, meter.measure) for _ in range(3)] == [1, 1, 1]
    place.rename(tmp_path / "old")
    place.mkdir()
    assert sizes.size(place, meter.measure) == 2
