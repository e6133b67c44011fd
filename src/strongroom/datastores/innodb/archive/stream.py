"""One connection that reads the binary log of a server and appends it to a series, from where the series ends in the store."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from strongroom.archive import LIMIT, MAX_AGE, Head, SegmentWriter
from strongroom.datastores.innodb.archive.contents import Contents
from strongroom.datastores.innodb.archive.details import LONGEST_GTIDS, SegmentDetails
from strongroom.datastores.innodb.binlog.bodies import parse_format
from strongroom.datastores.innodb.binlog.files import list_files
from strongroom.datastores.innodb.binlog.groups import Dialect, Group, Grouper
from strongroom.datastores.innodb.binlog.header import FORMAT, MAGIC, SIZE
from strongroom.datastores.innodb.binlog.pieces import Piece, Position
from strongroom.datastores.innodb.binlog.reader import HEARTBEAT_SECONDS, DumpReader, FileSource, Idle
from strongroom.datastores.innodb.binlog.tail import TailKeeper
from strongroom.datastores.innodb.connection import connect
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import LineageChanged, LogCorrupt, ServerFailed, StorageError, WalGone
from strongroom.sections import Artifact
from strongroom.storage import Store

_SECOND = 1_000_000
_PATIENCE = 0.5
COVER = 30.0
"""Seconds between two records that an idle log is complete."""


def now() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


class LogStream:
    """Appends the log of a server to the series that ends at ``head``. ``run`` works until ``stop``.

    A series begins with a whole file: at ``FILE:0``. A segment holds a part of one file, so that the segments of a file together
    are the file. It ends between transactions unless one is longer than a segment.
    """

    def __init__(
        self,
        server: Server,
        dialect: Dialect,
        store: Store,
        head: Head,
        settings: Artifact,
        recipients: Sequence[str] = (),
        *,
        server_id: int,
        limit: int = LIMIT,
        max_age: float = MAX_AGE,
        clock: Callable[[], int] = now,
    ) -> None:
        self._server, self._dialect, self._server_id = server, dialect, server_id
        self._store, self._head, self._settings, self._recipients = store, head, settings, recipients
        self._limit, self._max_age, self._clock = limit, max_age, clock
        details = SegmentDetails.of(head.segment) if head.segment else None
        self._details = details
        self._created = details.created if details else 0
        self._has_checksums = details.has_checksums if details else False
        self._keeper = TailKeeper(details.tail if details else None)
        self._state = dialect.open_state(details.gtids if details else "")
        self._end = Position.parse(head.position)
        """Of what the writer has."""
        self._begin = self._end
        """Of what it has not cut yet."""
        self._first = details.boundary if details else self._begin
        """From where the transactions of what it has not cut yet are read."""
        self._grouper = Grouper(dialect)
        self._contents = Contents()
        self._heartbeat = min(max_age, HEARTBEAT_SECONDS) / 2
        self._live_after: Position | None = None
        self._late_until = 0
        """Until then, the archive waited for the store, and did not read."""
        self._piece_at = 0
        self._time = details.time if details else 0
        self._covered = 0
        self._reader: DumpReader | None = None
        self._writer: SegmentWriter | None = None
        self._stopped = False
        self.is_reading = False
        """Whether the server has sent something."""
        self.complete_until: int | None = None
        """Everything that the server wrote until then is stored."""
        self._complete: deque[tuple[Position, int]] = deque()
        """Everything that the server had written at this time is before this position; for what is not stored yet."""
        self._stored, self._stored_end = head, self._end

    @property
    def durable(self) -> Head:
        """Where the series ends in the store."""
        return self._writer.durable if self._writer else self._head

    @property
    def trouble(self) -> StorageError | None:
        """Why the store takes nothing at present; None while it works."""
        return self._writer.trouble if self._writer else None

    def stop(self) -> None:
        """End ``run`` after what was read is stored. Another thread or a signal handler may call it."""
        self._stopped = True
        if self._reader is not None:
            self._reader.stop()

    def run(self) -> None:
        """Raises what reading and storing raise. Before, it was proven that the server has the log that the series contains."""
        start = self._details.boundary if self._details else Position(self._end.file, len(MAGIC))
        source = FileSource(start, self._dialect.starts)
        writing = SegmentWriter(
            self._store, self._head, self._settings, self._recipients, limit=self._limit, max_age=self._max_age
        )
        self._writer = writing
        with writing as writer, connect(self._server) as connection:
            self._live_after = list_files(self._server, connection)[-1].position
            self._reader = DumpReader(self._server, connection, source, server_id=self._server_id, heartbeat=self._heartbeat)
            if self._stopped:
                return
            try:
                for piece in self._reader.read():
                    self.is_reading = True
                    if isinstance(piece, Idle):
                        self._rest(writer)
                    else:
                        self._take(writer, piece)
                    self._find_complete(writer.durable)
            except (ServerFailed, WalGone, LineageChanged, LogCorrupt):  # what was read may exist nowhere else
                self._store_rest(writer)
                raise
            self._store_rest(writer)

    def _store_rest(self, writer: SegmentWriter) -> None:
        if self._wait(writer) and writer.size:
            self._cut(writer)
            self._wait(writer)

    def _take(self, writer: SegmentWriter, piece: Piece) -> None:
        if piece.start.file != self._end.file:
            self._finish_file(writer)
            if self._stopped and writer.size:
                return
            self._end = self._begin = Position(piece.start.file, 0)
            self._first = self._grouper.open_at or self._begin
        self._note(piece)
        offset = piece.start.offset
        if not piece.is_first:
            offset = self._piece_at
        self._piece_at = offset + len(piece.data)
        data = piece.data
        if self._end.offset == 0:
            data = MAGIC + data
        elif offset < self._end.offset:  # the beginning of an event that the store has already
            data = data[self._end.offset - offset :]
        if data:
            writer.append(data)
            self._end = Position(self._end.file, self._piece_at)
        is_between = piece.is_last and not self._grouper.is_open
        if writer.size >= self._limit or (is_between and writer.due_in == 0):
            if writer.size >= self._limit:
                self._wait(writer)  # memory is limited
            if not writer.is_busy and writer.size:
                self._cut(writer)

    def _note(self, piece: Piece) -> None:
        self._keeper.feed(piece)
        if piece.header.kind == FORMAT:
            self._created, self._has_checksums = piece.header.time, parse_format(piece.data).has_checksums
        for group in self._grouper.feed(piece):
            moment = self._find_time(group)
            self._contents.add(group, moment)
            second = group.end_time * _SECOND  # what was written before it precedes the transaction
            self._note_complete(group.end, min(moment, second))
            self._state.add(group.start.gtid)
        if piece.is_last and piece.is_first and piece.header.kind == self._dialect.state:
            self._state.load(piece.data[SIZE : len(piece.data) - piece.checksum])

    def _find_time(self, group: Group) -> int:
        """When the archive saw it; if it was committed before the archive could read it, when the server says. Never back.

        MySQL always says when. MariaDB says a second, in which the statement began or the commit: mostly not earlier than its
        end.
        """
        seen = self._clock()
        told = group.start.committed_us or group.end_time * _SECOND + _SECOND - 1
        is_old = self._live_after is not None and group.end.precedes(self._live_after)
        if is_old or told < self._late_until or group.start.committed_us is not None:
            seen = min(told, seen)  # a reader that is slower than the server sees everything late
        self._time = max(self._time, seen)
        return self._time

    def _rest(self, writer: SegmentWriter) -> None:
        """The server has nothing more at this moment."""
        moment = self._clock()
        if moment < self._late_until + self._heartbeat * _SECOND:
            return  # the server may have said so long ago
        self._note_complete(self._end, moment)
        if writer.is_busy:
            return
        if writer.size:
            self._cut(writer, moment)
        elif moment - self._covered >= COVER * _SECOND:
            writer.cover(moment)
        else:
            return
        self._covered = moment

    def _note_complete(self, end: Position, moment: int) -> None:
        """A note for each second is enough."""
        notes = self._complete
        if notes and notes[-1][0] == end:
            notes.pop()
        if not notes or moment - notes[-1][1] >= _SECOND:
            notes.append((end, moment))

    def _find_complete(self, stored: Head) -> None:
        if stored is not self._stored:
            self._stored, self._stored_end = stored, Position.parse(stored.position)
        while self._complete and self._complete[0][0].precedes(self._stored_end):
            self.complete_until = max(self.complete_until or 0, self._complete.popleft()[1])

    def _finish_file(self, writer: SegmentWriter) -> None:
        if writer.size and self._wait(writer):
            self._cut(writer)

    def _wait(self, writer: SegmentWriter) -> bool:
        """Until the writer can cut again; False if it cannot before the archiver is stopped."""
        began = self._clock()
        while not writer.wait(_PATIENCE):
            if self._stopped:
                return False
        if (ended := self._clock()) - began > _SECOND:
            self._late_until = ended
        return True

    def _cut(self, writer: SegmentWriter, covered: int | None = None) -> None:
        tail = self._keeper.tail
        if tail is None:
            return
        gtids = str(self._state)
        open_at = self._grouper.open_at
        details = SegmentDetails(
            file=self._end.file,
            begin=self._begin.offset,
            start=str(self._first),
            created=self._created,
            has_checksums=self._has_checksums,
            tail=tail,
            resume=min(open_at.offset, tail.end) if open_at else tail.end,
            time=self._time,
            gtids=gtids if len(gtids) <= LONGEST_GTIDS else "",
        )
        writer.cut(self._contents.span(str(self._end), details.model_dump_json(), covered), self._contents.index())
        self._contents = Contents()
        self._begin = self._end
        self._first = open_at or self._end
