"""Durations as people write them: ``7d``, ``26h``, ``1d12h``, ``90m``."""

from __future__ import annotations

import re
from datetime import timedelta

from strongroom.errors import InvalidRequest

_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_LONGEST = timedelta(days=36_525)


def parse_duration(text: str) -> timedelta:
    """Numbers with a unit (w, d, h, m, s), largest unit first; ``0`` needs no unit. Raises InvalidRequest."""
    compact = text.strip().lower().replace(" ", "")
    if compact == "0":
        return timedelta(0)
    match = re.fullmatch("".join(f"(?:([0-9]{{1,9}}){unit})?" for unit in _UNITS), compact)
    if not compact or match is None:
        raise InvalidRequest(f"{text!r} is not a duration", remedy="Write numbers with units, for example 7d, 26h, 1d12h or 90m.")
    seconds = sum(int(number or 0) * unit for number, unit in zip(match.groups(), _UNITS.values(), strict=True))
    if seconds > _LONGEST.total_seconds():
        raise InvalidRequest(f"{text!r} is longer than 100 years", remedy="Write a shorter duration.")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """A text that ``parse_duration`` reads as the same duration in whole seconds, days at most: ``14d``; ``0s`` for none."""
    left = int(duration.total_seconds())
    parts = []
    for unit, seconds in _UNITS.items():
        if unit == "w":
            continue
        number, left = divmod(left, seconds)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"
