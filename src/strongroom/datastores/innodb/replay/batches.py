"""Cuts the log into batches: one relay log each, of whole transactions, with numbers in place of their GTIDs."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import chain
from pathlib import Path
from typing import Protocol

from strongroom.datastores.innodb.binlog.groups import Dialect, Group, Grouper, State
from strongroom.datastores.innodb.binlog.header import FORMAT, HEARTBEAT, HEARTBEAT_V2, INCIDENT, ROTATE, SIZE, STOP, Header
from strongroom.datastores.innodb.binlog.pieces import Piece, Position
from strongroom.datastores.innodb.replay.events import LogEvents
from strongroom.datastores.innodb.replay.relay import LogFormat, RelayLog, make_event
from strongroom.datastores.innodb.replay.scan import Copied
from strongroom.errors import LogCorrupt

FIRST_BATCH = 1 << 20
"""Bytes of the first relay log, so that the server has work soon; each one has twice as many as the one before it."""
BATCH = 32 << 20
"""Bytes of a relay log, and more if its last transaction is longer."""
_SECOND = 1_000_000
_IGNORABLE = 0x80
_SINGLE = 2
"""Events of a statement that is its own transaction."""
_BETWEEN = frozenset({FORMAT, ROTATE, STOP, HEARTBEAT, HEARTBEAT_V2, 35, 161, 163, 164})
"""Events outside transactions that change nothing."""


class Rewriter(Protocol):
    """What is different in a database."""

    dialect: Dialect
    head: Sequence[tuple[Header, bytes]]
    """Events with which each relay log begins, after its format description."""

    def rewrite(self, header: Header, body: bytes, number: int) -> tuple[Header, bytes]:
        """The GTID event of a transaction, with the private GTID of this number."""

    def has(self, gtid: str) -> bool:
        """Whether the data has this transaction of the source already."""


class Repeat(IntEnum):
    """What is known about a transaction after the server was killed while it applied it."""

    EXACT = 0
    """It is in the data completely or not at all, and the server knows which."""
    UNCLEAR = 1
    """The server may have applied it without knowing."""
    DAMAGING = 2
    """It changes tables that are not transactional, which a kill can damage at any later time too."""


@dataclass(slots=True)
class Batch:
    """Transactions ``first`` and following, in a relay log."""

    path: Path
    number: int
    first: int
    offsets: array[int] = field(default_factory=lambda: array("Q"))
    """Where each begins in the relay log."""
    done: array[int] = field(default_factory=lambda: array("Q"))
    """Bytes of the log up to the end of each."""
    times: array[int] = field(default_factory=lambda: array("Q"))
    repeats: bytearray = field(default_factory=bytearray)
    uses_temporary: bool = False
    """Whether it, or a batch before it, creates temporary tables by statements."""

    @property
    def last(self) -> int:
        return self.first + len(self.offsets) - 1


class BatchWriter:
    """Writes batches into ``folder``, each when it is asked for. Only the present segment is in memory."""

    def __init__(self, events: LogEvents, rewriter: Rewriter, folder: Path) -> None:
        self._events, self._rewriter, self._folder = events, rewriter, folder
        self._grouper = Grouper(rewriter.dialect)
        self._number = 0
        self._files = 0
        self._done = 0
        self._writes = False
        self._has_rows = False
        self._uses_temporary = False
        self._stopped = False
        self.end: Position | None = None
        """Where the last transaction ends."""
        self.state: State | None = None
        """The GTIDs of the source up to there, as far as the log says; complete after the last batch."""
        self.skipped = 0
        """Transactions that the data has already."""

    def stop(self) -> None:
        """Make the present call of ``write`` end soon. Another thread may call it."""
        self._stopped = True

    def write(self) -> Iterator[Batch]:
        """Raises ArtifactError, StorageError, OSError."""
        pieces = self._events.pieces()
        form: LogFormat | None = None
        piece = next(pieces, None)
        self.state = self._rewriter.dialect.open_state(self._events.gtids)
        while piece is not None:
            keeps = True
            if isinstance(piece, Piece) and piece.header.kind == FORMAT:
                form = LogFormat(piece.data)
                keeps = self._number == 0 or not form.begins_server
            if form is None:
                raise LogCorrupt("the log does not begin with a format description")
            self._files += 1
            batch = Batch(self._folder / f"batch-{self._files}", self._files, self._number + 1)
            with RelayLog(batch.path, form, self._rewriter.head, keeps_temporary=keeps) as relay:
                piece = self._fill(batch, relay, form, piece, pieces)
            if batch.offsets:
                batch.uses_temporary = self._uses_temporary
                yield batch
            else:
                batch.path.unlink()

    def _fill(
        self, batch: Batch, relay: RelayLog, form: LogFormat, first: Piece | Copied, pieces: Iterator[Piece | Copied]
    ) -> Piece | Copied | None:
        """Write transactions until the batch is full. Returns the piece with which the next batch begins; None at the end."""
        starts = self._rewriter.dialect.starts
        begin, most = relay.size, min(BATCH, FIRST_BATCH << min(batch.number, 16))
        for piece in chain((first,), pieces):
            if self._stopped:
                break
            if relay.size >= most and begin == relay.size:
                return piece
            if isinstance(piece, Copied):
                if not self._grouper.is_open:
                    raise LogCorrupt("the log has changes outside of a transaction")
                if self._writes:
                    relay.write(piece.data)
                self._done += len(piece.data)
                self._has_rows = self._has_rows or piece.has_rows
                continue
            kind = piece.header.kind
            if kind == FORMAT and piece is not first:
                found = LogFormat(piece.data)
                if found.begins_server or not found.describes_like(form):
                    relay.cut(begin)
                    return piece
            if kind in starts:
                relay.cut(begin)  # the one before it has no end
            elif self._grouper.is_open:
                if self._writes and kind not in (FORMAT, ROTATE, STOP):
                    relay.write(piece.data)
            else:
                _require_harmless(piece)
            self._done += len(piece.data)
            for group in self._feed(piece):
                if group.is_complete and self._end(group):
                    self._note(batch, group, begin)
                    begin = relay.size
            if kind in starts:
                self._begin(piece, relay)
        relay.cut(begin)
        return None

    def _feed(self, piece: Piece) -> list[Group]:
        assert self.state is not None
        if piece.is_last and piece.is_first and piece.header.kind == self._rewriter.dialect.state:
            self.state.load(piece.data[SIZE : len(piece.data) - piece.checksum])
        return self._grouper.feed(piece)

    def _begin(self, piece: Piece, relay: RelayLog) -> None:
        start = self._grouper.open_start
        assert start is not None
        self._has_rows = False
        self._writes = piece.start.offset >= self._events.begins and not self._rewriter.has(start.gtid)
        if self._writes:
            body = piece.data[SIZE : len(piece.data) - piece.checksum]
            header, body = self._rewriter.rewrite(piece.header, body, self._number + 1)
            relay.write(make_event(header, body, checksum=relay.has_checksums))

    def _end(self, group: Group) -> bool:
        """Whether the transaction is to be applied."""
        assert self.state is not None
        self.state.add(group.start.gtid)
        self.end = group.end
        if self._writes:
            return True
        if group.first.offset < self._events.begins < group.end.offset:
            raise LogCorrupt(
                f"the data is at offset {self._events.begins} of {group.first.file}, within the transaction at {group.first}",
                remedy="Restore from another backup.",
            )
        self.skipped += 1
        return False

    def _note(self, batch: Batch, group: Group, begin: int) -> None:
        self._number += 1
        batch.offsets.append(begin)
        batch.done.append(self._events.skipped + self._done)
        batch.times.append(group.start.committed_us or group.end_time * _SECOND)
        batch.repeats.append(judge_repeat(group, has_rows=self._has_rows))
        self._uses_temporary = self._uses_temporary or any("TEMPORARY" in each.text.upper() for each in group.statements)


def judge_repeat(group: Group, *, has_rows: bool) -> Repeat:
    """Only what InnoDB commits together with its GTID is exact."""
    statements = [statement.described.kind for statement in group.statements]
    if "ddl" in statements or "rights" in statements or group.start.is_ddl or group.xa:
        return Repeat.UNCLEAR
    if group.xid is not None and group.start.is_transactional:
        return Repeat.EXACT
    if not has_rows and group.events <= _SINGLE:
        return Repeat.UNCLEAR
    return Repeat.DAMAGING


def _require_harmless(piece: Piece) -> None:
    """Require that an event outside transactions changes nothing."""
    header = piece.header
    if header.kind == INCIDENT:
        raise LogCorrupt(
            f"the source could not write a change to its log at {piece.start}: data after it would be wrong",
            remedy="Restore to a moment before it, or from a backup after it.",
        )
    if header.kind not in _BETWEEN and not header.flags & _IGNORABLE and not header.is_artificial:
        raise LogCorrupt(f"the log has an event of kind {header.kind} outside of a transaction at {piece.start}")
