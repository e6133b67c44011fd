"""Removes the beginning of a log archive. A record beside the series names the new beginning; it is written before anything goes.

So an interrupted removal shows no damage: what is before the beginning does not count any more, whether it is still there or not.
Only keys that a location makes are removed, whatever the store lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from strongroom.archive.deletion import delete_series
from strongroom.archive.load import Stored, list_series, load_segment, load_series, load_trimmed
from strongroom.archive.location import LogLocation, SeriesLocation
from strongroom.archive.records import LogSegment, Series, Time, Trimmed
from strongroom.storage import Store

_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Removed:
    """What was removed."""

    objects: int
    bytes: int


def trim_log(store: Store, log: LogLocation, series: int, first: int, *, at: Time) -> None:
    """Let the archive begin with segment ``first`` of this series: what is before it does not count, and may be removed.

    A beginning before the present one changes nothing. Raises ArtifactMissing, ArtifactCorrupt if the segment does not exist;
    StorageError.
    """
    known = load_trimmed(store, log)
    if known is not None and (known.series, known.first) >= (series, first):
        return
    location = log.series(series)
    found: Stored[LogSegment] | Stored[Series] = load_series(store, location)
    begin = found.record.begin
    if first:
        last = load_segment(store, location, first - 1)
        found, begin = last, last.record.end
    record = Trimmed(series=series, first=first, begin=begin, previous=found.sha256, at=at)
    store.put(log.trimmed, record.model_dump_json().encode())


def remove_trimmed(store: Store, log: LogLocation) -> Removed:
    """Remove what is before the beginning of the archive. May be repeated after an interruption. Raises StorageError."""
    trimmed = load_trimmed(store, log)
    if trimmed is None:
        return Removed(0, 0)
    objects = size = 0
    for location in list_series(store, log):
        if location.number < trimmed.series:
            for stat in store.list(location.prefix):
                objects, size = objects + 1, size + stat.size
            delete_series(store, location)
        elif location.number == trimmed.series:
            for folder in (location.records, location.data):
                keys = _list_before(store, location, folder, trimmed.first)
                while batch := list(islice(keys, _BATCH)):
                    store.delete([key for key, _ in batch])
                    objects, size = objects + len(batch), size + sum(bytes for _, bytes in batch)
    return Removed(objects, size)


def delete_log(store: Store, log: LogLocation) -> Removed:
    """Remove the whole archive. May be repeated after an interruption. Raises StorageError."""
    objects = size = 0
    for location in list_series(store, log):
        for stat in store.list(location.prefix):
            objects, size = objects + 1, size + stat.size
        delete_series(store, location)
    store.delete([log.trimmed])
    return Removed(objects, size)


def _list_before(store: Store, location: SeriesLocation, folder: str, first: int) -> Iterator[tuple[str, int]]:
    """The keys of the folder that are of segments before ``first``, and their sizes. Complete before anything is removed."""
    found = []
    for stat in store.list(folder):
        key = location.parse_part(stat.key)
        number = location.parse_number(stat.key)
        if key is not None and number is not None and number < first:
            found.append((key, stat.size))
    return iter(found)
