"""What the store holds of a series: its records, and which segments are missing or damaged as far as a listing can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from strongroom.archive.load import Stored, list_records, list_series, load_covered, load_segment, load_series, load_trimmed
from strongroom.archive.location import LogLocation, SeriesLocation
from strongroom.archive.records import Covered, LogSegment, Series, Trimmed
from strongroom.errors import ArtifactError
from strongroom.storage import Store

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Contents:
    """A series in the store."""

    series: Stored[Series]
    segments: Mapping[int, Stored[LogSegment]]
    """By number: those with a valid record and with bytes of the right size."""
    damaged: Mapping[int, str]
    """By number: what is wrong with the others, as far as there is a record."""
    covered: Covered | None
    trimmed: Trimmed | None = None
    """Where it begins, if retention has removed its beginning."""


def load_log(
    store: Store, log: LogLocation, known: Mapping[int, Contents] | None = None
) -> tuple[Sequence[Contents], Mapping[int, ArtifactError]]:
    """Every series of a server, oldest first, and by number those whose own record is missing or damaged. Raises StorageError.

    What retention has removed, or is about to remove, does not count. ``known``: the result of an earlier call, by number.
    Records are immutable, so those in it are not read again.
    """
    found, damaged = [], {}
    trimmed = load_trimmed(store, log)
    for location in list_series(store, log):
        if trimmed is not None and location.number < trimmed.series:
            continue
        try:
            found.append(load_contents(store, location, trimmed, (known or {}).get(location.number)))
        except ArtifactError as error:
            damaged[location.number] = error
    return found, damaged


def load_contents(
    store: Store, location: SeriesLocation, trimmed: Trimmed | None = None, known: Contents | None = None
) -> Contents:
    """One series. ``trimmed``: where the archive begins. ``known``: an earlier result, whose records are not read again.

    Raises ArtifactMissing, ArtifactCorrupt if its own record is missing or damaged, StorageError.
    """
    series = load_series(store, location)
    read = known.segments if known is not None and known.series.sha256 == series.sha256 else {}
    covered = load_covered(store, location)  # before the records: they may only become more
    own = trimmed if trimmed is not None and trimmed.series == location.number else None
    numbers = [number for number in list_records(store, location) if own is None or number >= own.first]
    sizes = {stat.key: stat.size for stat in store.list(location.data)}  # after the records, which are written last
    segments, damaged = {}, {}
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="log-records") as pool:
        new = [number for number in numbers if number not in read]
        loaded = dict(zip(new, pool.map(lambda number: _load(store, location, number), new), strict=True))
        for number in numbers:
            found = loaded.get(number) or read[number]
            if isinstance(found, ArtifactError):
                damaged[number] = found.message
            elif (size := sizes.get(found.record.data_key)) != found.record.stored:
                damaged[number] = f"log segment {number} " + ("is missing" if size is None else "has the wrong size")
            else:
                segments[number] = found
    return Contents(series, segments, damaged, covered, own)


def _load(store: Store, location: SeriesLocation, number: int) -> Stored[LogSegment] | ArtifactError:
    try:
        return load_segment(store, location, number)
    except ArtifactError as error:
        return error
