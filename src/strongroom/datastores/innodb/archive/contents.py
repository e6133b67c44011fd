"""The index of a segment of a binary log: what people look for in it, and where it stands at which time."""

from __future__ import annotations

from collections import Counter

from strongroom.archive import Activity, Event, Mark, SegmentIndex, Span
from strongroom.archive.records import MOST_EVENTS, MOST_TEXT
from strongroom.archive.times import Times
from strongroom.datastores.innodb.binlog.groups import Group

MARK_EVERY = 256
_LARGE = 16 << 20
_KINDS = {"DROP": "drop", "TRUNCATE": "truncate"}


class Contents:
    """Collects the transactions that end in a segment."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._marks: list[Mark] = []
        self._activity: Counter[tuple[str, str]] = Counter()
        self._times = Times()
        self._omitted = 0
        self._transactions = 0
        self._first: int | None = None
        self._last: int | None = None

    def add(self, group: Group, time: int) -> None:
        """A transaction that was committed at this time, in microseconds."""
        if self._transactions % MARK_EVERY == 0:
            key = "" if group.xid is None else str(group.xid)
            self._keep(self._marks, Mark(position=str(group.end), time=time, transactions=self._transactions + 1, key=key))
        self._transactions += 1
        self._times.add(time)
        self._first = time if self._first is None else min(self._first, time)
        self._last = time if self._last is None else max(self._last, time)
        where = {"begin": str(group.first), "end": str(group.end)}
        for statement in group.statements:
            found = statement.described
            if found.kind in ("ddl", "rights"):
                kind = _KINDS.get(found.verb.partition(" ")[0], "ddl")
                objects = tuple(name_table(*each) for each in found.names)
                self._keep(self._events, Event(kind=kind, time=time, text=statement.text[:MOST_TEXT], objects=objects, **where))
        if group.size >= _LARGE:
            tables = tuple(name_table(*each) for each in group.tables)[:100]
            self._keep(self._events, Event(kind="large", time=time, text=f"{group.size} bytes", objects=tables, **where))
        for table, change in group.tables.items():
            for kind, size in (("insert", change.inserts), ("update", change.updates), ("delete", change.deletes)):
                if size and ((name_table(*table), kind) in self._activity or len(self._activity) < MOST_EVENTS):
                    self._activity[name_table(*table), kind] += size
                elif size:
                    self._omitted += 1

    def index(self) -> SegmentIndex:
        activity = tuple(Activity(table=table, kind=kind, bytes=size) for (table, kind), size in self._activity.items())
        return SegmentIndex(
            events=tuple(self._events),
            marks=tuple(self._marks),
            activity=activity,
            times=str(self._times),
            omitted=self._omitted,
        )

    def span(self, end: str, details: str, covered: int | None) -> Span:
        return Span(
            end=end,
            first_time=self._first,
            last_time=self._last,
            transactions=self._transactions,
            covered_until=covered,
            details=details,
        )

    def _keep(self, found: list[Event] | list[Mark], entry: Event | Mark) -> None:
        if len(found) < MOST_EVENTS:
            found.append(entry)  # type: ignore[arg-type]
        else:
            self._omitted += 1


def name_table(schema: str, table: str) -> str:
    return f"{schema}.{table}"[:MOST_TEXT] if table else schema[:MOST_TEXT]
