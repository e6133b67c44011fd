"""Reads segments and verifies them: size, hash, chain, and that one continues the other."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from strongroom.archive.load import REMEDY, Stored, load_segment, load_series, load_trimmed
from strongroom.archive.location import SeriesLocation
from strongroom.archive.packing import unpack_index
from strongroom.archive.records import LogSegment, SegmentIndex, Series
from strongroom.artifact.segments.codec import Opener, compression, most_stored
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, StorageNotFound
from strongroom.storage import Store

_THREADS = 8


class SegmentReader:
    """One series. ``identities`` are age secret keys. Every call reads from the store again."""

    def __init__(self, store: Store, location: SeriesLocation, identities: Sequence[str] = ()) -> None:
        self._store = store
        self._location = location
        self._opener = Opener(identities, f"log archive {location.prefix}")

    def series(self) -> Series:
        """The record of the series. Raises ArtifactMissing, ArtifactCorrupt, StorageError."""
        return load_series(self._store, self._location).record

    def segments(self, first: int, stop: int) -> Iterator[LogSegment]:
        """Yield the records of segments ``first`` to before ``stop``, each verified against the one before it.

        Raises ArtifactMissing, ArtifactCorrupt, StorageError.
        """
        if first == stop:
            return
        begin, sha256 = self._before(first)
        for found in self._load(first, stop):
            require_link(found, begin, sha256)
            begin, sha256 = found.record.end, found.sha256
            yield found.record

    def _load(self, first: int, stop: int) -> Iterator[Stored[LogSegment]]:
        """Several at a time: a log of small segments has many, and each costs a request."""
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="log-records")
        try:
            loads = (pool.submit(load_segment, self._store, self._location, number) for number in range(first, stop))
            waiting = deque(islice(loads, 2 * _THREADS))
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(islice(loads, 1))
        finally:
            pool.shutdown(cancel_futures=True)

    def _before(self, first: int) -> tuple[str, str]:
        trimmed = load_trimmed(self._store, self._location.log)
        if trimmed is not None and (trimmed.series, trimmed.first) == (self._location.number, first):
            return trimmed.begin, trimmed.previous
        if first:
            segment = load_segment(self._store, self._location, first - 1)
            return segment.record.end, segment.sha256
        series = load_series(self._store, self._location)
        return series.record.begin, series.sha256

    def read(self, segment: LogSegment) -> bytes:
        """The bytes of the log in a segment. Raises ArtifactMissing, ArtifactCorrupt, CannotDecrypt, StorageError."""
        key = segment.data_key
        if segment.stored > most_stored(segment.raw):
            raise ArtifactCorrupt(f"the record of log segment {segment.number} contains impossible sizes", remedy=REMEDY)
        try:
            data = self._store.get(key, length=segment.stored + 1)
        except StorageNotFound as error:
            raise ArtifactMissing(f"log segment {segment.number} ({self._store.url(key)}) is missing", remedy=REMEDY) from error
        try:
            if len(data) != segment.stored:
                raise ArtifactCorrupt(f"it has {'more' if len(data) > segment.stored else 'fewer'} than {segment.stored} bytes")
            if hashlib.sha256(data).hexdigest() != segment.sha256:
                raise ArtifactCorrupt("its SHA-256 is wrong")
            if segment.encrypted:
                data = self._opener.open(data)
            buffer = bytearray(segment.raw)
            compression(segment.codec, 1).decompress(data, memoryview(buffer))
        except ArtifactCorrupt as error:
            raise ArtifactCorrupt(
                f"log segment {segment.number} ({self._store.url(key)}) is damaged: {error}", remedy=REMEDY
            ) from error
        return bytes(buffer)

    def index(self, segment: LogSegment) -> SegmentIndex:
        """The index of a segment. Raises ArtifactCorrupt, CannotDecrypt."""
        return unpack_index(segment.index, self._opener if segment.encrypted else None)


def require_link(found: Stored[LogSegment], begin: str, sha256: str) -> None:
    """Raise ArtifactCorrupt unless the segment continues what ends at ``begin`` and has the record ``sha256``."""
    segment = found.record
    if segment.previous != sha256:
        raise ArtifactCorrupt(f"log segment {segment.number} does not follow the segment before it", remedy=REMEDY)
    if segment.begin != begin:
        raise ArtifactCorrupt(f"log segment {segment.number} begins at {segment.begin}, not at {begin}", remedy=REMEDY)
