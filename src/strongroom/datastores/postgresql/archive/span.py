"""Collects what the index of a segment says about its WAL."""

from __future__ import annotations

from strongroom.archive import Event, Mark, SegmentIndex, Span
from strongroom.archive.records import MOST_EVENTS, MOST_TEXT
from strongroom.datastores.postgresql.archive.records import RestorePoint, TransactionEnd
from strongroom.datastores.postgresql.files.lsn import format_lsn

EVERY = 512
"""Transactions between two marks."""
_MOST_FILES = 1000


class SpanBuilder:
    """From one cut to the next."""

    def __init__(self) -> None:
        self._count = 0
        self._first: int | None = None
        self._last: int | None = None
        self._marks: list[Mark] = []
        self._events: list[Event] = []
        self._omitted = 0

    def add(self, record: TransactionEnd | RestorePoint) -> None:
        """Take the next record: it belongs to the segment in which it ends."""
        if isinstance(record, RestorePoint):
            self._add_event("restore-point", record, text=record.name)
            return
        self._count += 1
        self._first = record.time if self._first is None else min(self._first, record.time)
        self._last = record.time if self._last is None else max(self._last, record.time)
        if record.commits and record.files:
            self._add_event("drop", record, files=record.files)
        if self._count % EVERY == 0 and len(self._marks) < MOST_EVENTS:
            self._marks.append(Mark(position=format_lsn(record.end), time=self._last, transactions=self._count))

    def _add_event(
        self, kind: str, record: TransactionEnd | RestorePoint, *, text: str = "", files: tuple[str, ...] = ()
    ) -> None:
        if len(self._events) >= MOST_EVENTS:
            self._omitted += 1
            return
        self._omitted += max(0, len(files) - _MOST_FILES)
        self._events.append(
            Event(
                kind=kind,
                begin=format_lsn(record.start),
                end=format_lsn(record.end),
                time=record.time,
                text=text[:MOST_TEXT],
                objects=files[:_MOST_FILES],
            )
        )

    def finish(self, end: int, *, covered_until: int | None, details: str) -> tuple[Span, SegmentIndex]:
        """What the segment that ends at ``end`` contains; then begin with the next."""
        span = Span(
            end=format_lsn(end),
            first_time=self._first,
            last_time=self._last,
            transactions=self._count,
            covered_until=covered_until,
            details=details,
        )
        index = SegmentIndex(events=tuple(self._events), marks=tuple(self._marks), omitted=self._omitted)
        self.__init__()  # type: ignore[misc]
        return span, index
