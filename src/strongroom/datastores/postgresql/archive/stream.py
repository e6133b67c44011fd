"""One stream of WAL on its way from a server into a series."""

from __future__ import annotations

import hashlib
import time
from collections import deque

from strongroom.archive import Head, SegmentWriter
from strongroom.datastores.postgresql.archive.continuation import SegmentDetails
from strongroom.datastores.postgresql.archive.records import RecordDamaged
from strongroom.datastores.postgresql.archive.replication import Keepalive, Replication, TimelineEnd, WalData
from strongroom.datastores.postgresql.archive.scanner import WalScanner
from strongroom.datastores.postgresql.archive.span import SpanBuilder
from strongroom.datastores.postgresql.files.lsn import format_lsn, parse_lsn
from strongroom.datastores.postgresql.files.wal import History, Unfit
from strongroom.errors import ServerFailed, StorageError

PING = 1.0
"""Seconds between two reports to the server. It asks for one itself only when it stops."""
COVER = 30.0
"""Seconds between two records that an idle log is complete."""
PATIENCE = 3.0
"""Seconds that a server that stops, or a full memory, waits for the store."""
_END_PATIENCE = 30.0
"""At the end of a timeline nothing waits for this."""
_BORDER = 16 * 1024**2
"""No segment crosses a multiple of this position."""
_SECOND = 1_000_000
_BATCH = 64
"""Messages that are processed before timers are looked at."""
_REMEDY = "It is received again; if this repeats, look for a failing disk or another server at the same address."


class Diverged(Exception):
    """The server's WAL is not the one that was archived."""


class WalStream:
    """Started at the beginning of the file in which the series ends: so the index sees whole records, and what is stored already
    proves that the server still has the same WAL."""

    def __init__(
        self, replication: Replication, writer: SegmentWriter, head: Head, size: int, system: int, history: History
    ) -> None:
        self._replication, self._writer, self._size = replication, writer, size
        self._stored_before = parse_lsn(head.position)
        """What is before this position is stored already."""
        self._proof = SegmentDetails.of(head.segment).file_sha256 if head.segment else ""
        self._received = self._stored_before // size * size
        self._scanner = WalScanner(self._received, size, system, history)
        self._hash = hashlib.sha256()
        self._builder = SpanBuilder()
        self._covered: int | None = None
        """At this time the server had no WAL after ``_received``, or after an earlier position."""
        self._last_keepalive: Keepalive | None = None
        self._next_ping = self._next_cover = 0.0
        self._is_drained = False
        self._reported = -1
        self._stopping: float | None = None
        """When a server that stops loses its patience."""
        self._recorded: int | None = None
        self._complete: deque[tuple[int, int]] = deque()
        """At this time, the server had no WAL after this position; for what is not stored yet."""
        self.complete_until: int | None = None
        """Everything that the server wrote until then is stored. In microseconds, by the clock of the server."""

    def advance(self) -> TimelineEnd | None:
        """Process what has arrived. Raises Diverged, ServerFailed, StorageError."""
        for _ in range(_BATCH):
            message = self._replication.receive()
            self._is_drained = message is None
            if message is None:
                break
            if isinstance(message, TimelineEnd):
                return self._end(message)
            if isinstance(message, WalData):
                self._take(message)
            else:
                self._note(message)
        self._work()
        return None

    def pause(self) -> float:
        """Seconds until something has to be done, if nothing arrives."""
        if not self._is_drained:
            return 0.0
        due = self._writer.due_in
        return max(0.0, min(self._next_ping - time.monotonic(), PING if due is None or self._writer.is_busy else due))

    def finish(self) -> None:
        """Store what was received, as far as the store takes it soon."""
        self._cut(PATIENCE)
        self._writer.wait(PATIENCE)
        self._confirm(ask=False)

    # --- messages

    def _take(self, message: WalData) -> None:
        if message.start != self._received:
            raise ServerFailed(f"the server sent WAL of {format_lsn(message.start)} instead of {format_lsn(self._received)}")
        self._last_keepalive = None
        data = message.data
        while data:
            length = min(len(data), self._next_stop() - self._received)
            piece, data = data[:length], data[length:]
            self._append(piece)
        if self._received >= message.server_end:
            self._note_complete(message.time)

    def _next_stop(self) -> int:
        """A piece of WAL ends here: at the end of a file or of a segment, or where the unknown begins."""
        stops = [(self._received // self._size + 1) * self._size, (self._received // _BORDER + 1) * _BORDER]
        if self._received < self._stored_before:
            stops.append(self._stored_before)
        elif self._writer.remaining:
            stops.append(self._received + self._writer.remaining)
        return min(stops)

    def _append(self, piece: memoryview) -> None:
        if self._received % self._size == 0:
            self._hash = hashlib.sha256()
        is_new = self._received >= self._stored_before
        if is_new and (not self._writer.remaining or (self._writer.size and self._received % _BORDER == 0)):
            self._cut(PATIENCE)
        try:
            for record in self._scanner.feed(piece):
                if record.end > self._stored_before:
                    self._builder.add(record)
        except (Unfit, RecordDamaged) as error:
            raise ServerFailed(f"what the server sent is not its WAL: {error}", remedy=_REMEDY) from error
        self._hash.update(piece)
        self._received += len(piece)
        if is_new:
            self._writer.append(piece)
        elif self._received == self._stored_before and self._hash.hexdigest() != self._proof:
            raise Diverged(f"the WAL of the server before {format_lsn(self._received)} is not the archived one")

    def _note(self, message: Keepalive) -> None:
        """Two keepalives without WAL between them: when the first was sent, the server had nothing more to send."""
        last = self._last_keepalive
        if last is not None and last.sent == message.sent == self._received:
            self._covered = last.time
        if message.sent == self._received:
            self._note_complete(message.time)
        self._last_keepalive = message
        if message.wants_reply:
            self._stopping = self._stopping or time.monotonic() + PATIENCE
            self._confirm(ask=False)

    def _note_complete(self, at: int) -> None:
        """At the time ``at``, the server had nothing that was not received. A note for each second is enough."""
        if not self._complete or self._received == self._complete[-1][0]:
            if self._complete:
                self._complete.pop()
            self._complete.append((self._received, at))
        elif at - self._complete[-1][1] >= _SECOND:
            self._complete.append((self._received, at))

    def _end(self, end: TimelineEnd) -> TimelineEnd:
        if end.position != self._received:
            raise ServerFailed(
                f"timeline ended at {format_lsn(end.position)}, but WAL up to {format_lsn(self._received)} was sent"
            )
        self._cut(_END_PATIENCE)
        if not self._writer.wait(_END_PATIENCE):
            raise self._writer.trouble or _describe_slowness()
        return end

    # --- timers

    def _work(self) -> None:
        self._writer.check()
        now = time.monotonic()
        stored = self._durable()
        while self._complete and self._complete[0][0] <= stored:
            self.complete_until = self._complete.popleft()[1]
        if self._stopping is not None:
            if stored >= self._received:
                self._stopping = None
            elif not self._writer.is_busy:
                self._cut(0)
            elif now > self._stopping:
                raise ServerFailed("the server stops, and does not wait for the store")
        elif self._writer.due_in == 0.0 and not self._writer.is_busy:
            self._cut(0)
        elif (
            self._covered != self._recorded and stored == self._received and not self._writer.is_busy and now >= self._next_cover
        ):
            assert self._covered is not None
            self._recorded, self._next_cover = self._covered, now + COVER
            self._writer.cover(self._covered)
        self._confirm(ask=now >= self._next_ping)

    def _confirm(self, *, ask: bool) -> None:
        """Report, if something is new or it is time to."""
        stored = self._durable()
        if not ask and stored == self._reported and self._stopping is None:
            return
        if ask:
            self._next_ping = time.monotonic() + PING
        self._reported = stored
        self._replication.confirm(max(self._received, self._stored_before), stored, ask=ask)

    def _durable(self) -> int:
        return parse_lsn(self._writer.durable.position)

    def _cut(self, patience: float) -> None:
        """End the segment here. Raises StorageError if the one before it is not stored in time."""
        if not self._writer.size:
            return
        if not self._writer.wait(patience):
            raise self._writer.trouble or _describe_slowness()
        details = SegmentDetails(file_sha256=self._hash.hexdigest())
        self._writer.cut(*self._builder.finish(self._received, covered_until=self._covered, details=details.model_dump_json()))


def _describe_slowness() -> StorageError:
    return StorageError("the store is too slow for the log", remedy="Check the store; the server keeps the log meanwhile.")
