"""Reads the records of a log archive from a store. Everything there is untrusted: sizes are bounded, every field is checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from strongroom.archive.location import LogLocation, SeriesLocation
from strongroom.archive.records import MAX_RECORD, Covered, LogSegment, Series, Trimmed
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, StorageNotFound
from strongroom.storage import Store

REMEDY = "What is stored was changed or lost; check the store. The next backup begins a new recovery window."
Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Stored(Generic[Record]):
    """A record and the SHA-256 of its stored bytes, by which the next record refers to it."""

    record: Record
    sha256: str


@dataclass(frozen=True, slots=True)
class Head:
    """Where a series ends in the store: the next segment continues here."""

    series: Series
    segment: LogSegment | None
    """The last one; None if the series has none yet."""
    sha256: str
    """Of the record of the last segment, or of the series."""

    @property
    def number(self) -> int:
        """Of the next segment."""
        return self.segment.number + 1 if self.segment else 0

    @property
    def position(self) -> str:
        """Where the next segment begins."""
        return self.segment.end if self.segment else self.series.begin


def list_series(store: Store, log: LogLocation) -> list[SeriesLocation]:
    """The series of a server, oldest first. Raises StorageError."""
    found = (log.parse_series(name) for name in store.folders(log.prefix))
    return sorted((location for location in found if location is not None), key=lambda location: location.number)


def load_series(store: Store, location: SeriesLocation) -> Stored[Series]:
    """The record of a series. Raises ArtifactMissing, ArtifactCorrupt, StorageError."""
    found = _load(store, location.series, Series)
    if found.record.location != location:
        raise ArtifactCorrupt(f"{store.url(location.series)} is the record of another series", remedy=REMEDY)
    return found


def list_records(store: Store, location: SeriesLocation) -> list[int]:
    """The numbers of the segments of a series that have a record, in order. Raises StorageError."""
    numbers = (location.parse_record(stat.key) for stat in store.list(location.records))
    return sorted(number for number in numbers if number is not None)


def load_segment(store: Store, location: SeriesLocation, number: int) -> Stored[LogSegment]:
    """The record of a segment. Raises ArtifactMissing, ArtifactCorrupt, StorageError."""
    key = location.record_of(number)
    found = _load(store, key, LogSegment)
    if (found.record.series, found.record.number) != (location, number):
        raise ArtifactCorrupt(f"{store.url(key)} is the record of another segment", remedy=REMEDY)
    return found


def load_head(store: Store, location: SeriesLocation) -> Head:
    """Where a series ends. Raises ArtifactMissing, ArtifactCorrupt, StorageError."""
    series = load_series(store, location)
    numbers = list_records(store, location)
    if not numbers:
        return Head(series.record, None, series.sha256)
    last = load_segment(store, location, numbers[-1])
    return Head(series.record, last.record, last.sha256)


def load_covered(store: Store, location: SeriesLocation) -> Covered | None:
    """Until when an idle log is complete; None if that is not recorded. Raises StorageError."""
    try:
        return _load(store, location.covered, Covered).record
    except (ArtifactMissing, ArtifactCorrupt):  # without it, the window is shorter
        return None


def load_trimmed(store: Store, log: LogLocation) -> Trimmed | None:
    """Where the archive begins, if retention has removed its beginning. Raises StorageError."""
    try:
        return _load(store, log.trimmed, Trimmed).record
    except (ArtifactMissing, ArtifactCorrupt):  # without it, what was removed is shown as missing
        return None


def _load(store: Store, key: str, model: type[Record]) -> Stored[Record]:
    try:
        data = store.get(key, length=MAX_RECORD + 1)
    except StorageNotFound as error:
        raise ArtifactMissing(f"{store.url(key)} is missing", remedy=REMEDY) from error
    if len(data) > MAX_RECORD:
        raise ArtifactCorrupt(f"{store.url(key)} is larger than {MAX_RECORD} bytes", remedy=REMEDY)
    try:
        return Stored(model.model_validate_json(data), hashlib.sha256(data).hexdigest())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ArtifactCorrupt(
            f"{store.url(key)} is damaged: {where + ': ' if where else ''}{first['msg']}", remedy=REMEDY
        ) from error
