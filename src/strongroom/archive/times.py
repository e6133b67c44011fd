"""The times of the transactions of a segment as text: differences in microseconds, as LEB128 numbers, in base64.

A transaction takes two bytes if at most 16 ms have passed since the one before it, three for two seconds.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import Iterable, Sequence

from strongroom.archive.records import Time
from strongroom.errors import ArtifactCorrupt

_DAMAGED = "the times of the transactions in a log segment are damaged"
_LONGEST = 9
"""Bytes of a number below 2**63."""


class Times:
    """Collects the times of a segment, in order; a time before the one before it counts as equal."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._last: int | None = None

    def add(self, time: Time) -> None:
        """The time of the next transaction. The first one is the ``first_time`` of the segment."""
        rest = max(0, time - self._last) if self._last is not None else 0
        self._last = time if self._last is None else self._last + rest
        while rest >= 0x80:
            self._data.append(rest & 0x7F | 0x80)
            rest >>= 7
        self._data.append(rest)

    def __str__(self) -> str:
        return base64.b64encode(self._data).decode()


def read_times(text: str, first: Time) -> Sequence[int]:
    """The times, of which the first is known. Raises ArtifactCorrupt."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ArtifactCorrupt(_DAMAGED) from error
    return array("q", _add(data, first))


def _add(data: bytes, first: Time) -> Iterable[int]:
    time, value, shift = first, 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte & 0x80:
            if shift >= 7 * _LONGEST:
                raise ArtifactCorrupt(_DAMAGED)
            continue
        time += value
        if time >= 2**62:
            raise ArtifactCorrupt(_DAMAGED)
        yield time
        value = shift = 0
    if shift:
        raise ArtifactCorrupt(_DAMAGED)
