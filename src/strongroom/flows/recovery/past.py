"""What is known of the past of an instance: its log, which parts of it are complete, and the backups to which they apply."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cmp_to_key, partial
from itertools import pairwise
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from strongroom import datastores
from strongroom.archive import Contents, Interval, LogLocation, LogSegment, Piece, Precedes, Stretch, Window, find_window
from strongroom.artifact import Positions
from strongroom.catalog import Backup, Instance
from strongroom.datastores.protocol.logs import Cut, Logs, Start
from strongroom.errors import ArtifactError, Conflict, Unsupported
from strongroom.flows.recovery.location import open_log
from strongroom.flows.recovery.times import SECOND
from strongroom.flows.retention.outlook import find_owner
from strongroom.flows.site import Site
from strongroom.storage import Store


@dataclass(frozen=True, slots=True)
class Link:
    """A completed backup, as far as it matters here."""

    id: str
    name: str
    kind: str
    parent_id: str | None
    lineage: str | None
    positions: dict[str, Any] | None
    created: datetime
    finished: datetime | None
    verified: dict[str, Any] | None
    trashed: bool


@dataclass(frozen=True, slots=True)
class Base:
    """A backup in the log: the log can be applied to it."""

    backup: Link
    start: Start

    @property
    def time(self) -> int:
        """When it was complete, in microseconds since 1970: everything after that is in the log."""
        return round((self.backup.finished or self.backup.created).timestamp() * SECOND)


@dataclass(frozen=True, slots=True)
class Part:
    """A complete part of the log, with the backups in it, by their positions."""

    interval: Interval
    bases: Sequence[Base]
    live_from: int = 0
    """When its last series began, if it left the log of another part, as after a restore in place. Before, the other was live."""

    @property
    def begin(self) -> int:
        """The earliest moment that is restored from it. Only if there is a base."""
        return max(self.live_from, min(base.time for base in self.bases))

    @property
    def end(self) -> int:
        """The latest moment that can be restored. Only if there is a base."""
        return max(self.interval.end_time or 0, self.begin)

    def find_piece(self, series: int, position: str, precedes: Precedes) -> int | None:
        """The number of the piece that contains the position."""
        for number, piece in enumerate(self.interval.pieces):
            if piece.series == series and precedes(piece.begin, position) and precedes(position, piece.end):
                return number
        return None


@dataclass(frozen=True, slots=True)
class Past:
    """The past of one instance. What is read of it later, such as segments, comes from its store."""

    instance: Instance
    logs: Logs
    store: Store
    log: LogLocation
    identities: Sequence[str]
    contents: Mapping[int, Contents]
    damaged: Mapping[int, ArtifactError]
    """By number: series whose own record is missing or damaged."""
    window: Window
    parts: Sequence[Part]
    """In the order of their series."""

    @property
    def restorable(self) -> list[Part]:
        """The parts with a backup."""
        return [part for part in self.parts if part.bases]

    def pieces(self, part: Part, start: Start, cut: Cut | None = None) -> tuple[Piece, ...]:
        """The part of the log from the start, up to the cut or to its end, without the segments outside."""
        precedes = self.logs.precedes
        found = list(part.interval.pieces)
        last = len(found) - 1
        if cut is not None:
            last = next(n for n, piece in enumerate(found) if piece.series == cut.series and precedes(cut.position, piece.end))
            found[last] = self._end(found[last], cut.position)
        first = part.find_piece(start.series, start.position, precedes)
        assert first is not None, "a base is in its part of the log"
        found[first] = self._begin(found[first], start.position)
        return tuple(found[first : last + 1])

    def stretch(self, pieces: Sequence[Piece]) -> Stretch:
        """The pieces, to be read."""
        return Stretch(self.store, self.log, pieces, self.identities, self.contents)

    def segments(self, piece: Piece) -> list[LogSegment]:
        """The records of the segments of a piece."""
        known = self.contents[piece.series].segments
        return [known[number].record for number in range(piece.first, piece.stop)]

    def _begin(self, piece: Piece, position: str) -> Piece:
        """The piece without the segments that end at the position or before."""
        segments = self.segments(piece)
        at = bisect_left(segments, True, key=lambda segment: not self.logs.precedes(segment.end, position))
        begin = segments[at].begin if at < len(segments) else position
        return Piece(piece.series, piece.first + at, piece.stop, begin, piece.end)

    def _end(self, piece: Piece, position: str) -> Piece:
        """The piece without the segments that begin at the position or after it."""
        segments = self.segments(piece)
        stop = bisect_left(segments, True, key=lambda segment: self.logs.precedes(position, segment.begin))
        return Piece(piece.series, piece.first, piece.first + stop, piece.begin, position)


def load_past(site: Site, project: str, ref: str) -> Past:
    """The past of an instance, also of a deleted one by its id. It reads the store: not on the event loop.

    Raises NotFound, Conflict (there is no log archive), Unsupported, StorageError, ConfigurationError.
    """
    with site.catalog.read() as session:
        instance = _find_source(session, project, ref)
        backups = _list_good(session, instance)
    logs = datastores.get(instance.datastore).require_logs()
    store, log = open_log(site, instance)
    found, damaged = site.logs.load(store, log)
    if not found and not damaged:
        raise Conflict(
            f"instance {instance.name} ({instance.id}) has no log archive, so only its backups can be restored",
            remedy="Archive its log from now on: `strongroom policy update POLICY --log-archive`, and attach the policy to it.",
        )
    window = find_window(found, logs.precedes)
    bases = [base for backup in backups if (base := _find_base(logs, backup, found)) is not None]
    return Past(
        instance=instance,
        logs=logs,
        store=store,
        log=log,
        identities=[identity.get_secret_value() for identity in site.stores.identities()],
        contents={contents.series.record.location.number: contents for contents in found},
        damaged=damaged,
        window=window,
        parts=[_make_part(logs, interval, bases, _find_live(interval, window, found)) for interval in window.intervals],
    )


def _find_source(session: Session, project: str, ref: str) -> Instance:
    try:
        row = find_owner(session, project, ref)
    except Unsupported:
        row = None
    if not isinstance(row, Instance):
        what = f"{ref} is a node of a cluster" if row is None else f"{row.name} ({row.id}) is a cluster"
        raise Unsupported(
            f"{what}, which cannot be restored to a moment yet",
            remedy="Restore one of its backups: `strongroom cluster restore`.",
        )
    return row


_CLOCKS = 600 * SECOND
"""Microseconds by which the clocks of a host and of the service may differ."""
_COLUMNS = tuple(getattr(Backup, column.name) for column in fields(Link))


def _list_good(session: Session, instance: Instance) -> list[Link]:
    """The backups of the instance whose chain is complete and not damaged, oldest first. One query, for any number of them."""
    completed = (Backup.instance_id == instance.id, Backup.deleted.is_(None), Backup.status == "COMPLETED")
    rows = session.execute(select(*_COLUMNS).where(*completed).order_by(Backup.created, Backup.id))
    good: dict[str, Link] = {}
    for link in (Link(*row) for row in rows):  # a parent is older than its children
        if (link.verified is None or link.verified["ok"]) and (link.parent_id is None or link.parent_id in good):
            good[link.id] = link
    return [link for link in good.values() if not link.trashed]


def _find_base(logs: Logs, backup: Link, log: Sequence[Contents]) -> Base | None:
    """Where the log continues the backup. Only in series of the same data: positions may occur again after a restore."""
    same = [each for each in log if not each.series.record.lineage or each.series.record.lineage == backup.lineage]
    positions = Positions.model_validate(backup.positions or {})
    complete = round((backup.finished or backup.created).timestamp() * SECOND) + _CLOCKS
    before = [each for each in same if each.series.record.started <= complete]
    # a series that began because the data was replaced, as by an old snapshot, does not continue a backup from before
    later = [each for each in same if each not in before and each.series.record.began not in ("restore", "identity")]
    start = logs.find_start(positions, before) or logs.find_start(positions, later)
    return Base(backup, start) if start is not None else None


def _find_live(interval: Interval, window: Window, log: Sequence[Contents]) -> int:
    """When the interval left the log of another one; 0 if it did not."""
    started = {contents.series.record.location.number: contents.series.record.started for contents in log}
    ends = {other.pieces[-1].series for other in window.intervals if other is not interval}
    left = [started[after.series] for before, after in pairwise(interval.pieces) if before.series in ends]
    return max(left, default=0)


def _make_part(logs: Logs, interval: Interval, bases: Sequence[Base], live_from: int) -> Part:
    empty = Part(interval, ())
    found = []
    for base in bases:
        number = empty.find_piece(base.start.series, base.start.position, logs.precedes)
        if number is not None:
            found.append((number, base))
    found.sort(key=cmp_to_key(partial(_compare, logs.precedes)))
    return Part(interval, tuple(base for _, base in found), live_from)


def _compare(precedes: Precedes, first: tuple[int, Base], second: tuple[int, Base]) -> int:
    """By position. A stable sort, so that of backups with the same position the newest comes last."""
    if first[0] != second[0]:
        return first[0] - second[0]
    before = precedes(first[1].start.position, second[1].start.position)
    after = precedes(second[1].start.position, first[1].start.position)
    return int(after) - int(before)
