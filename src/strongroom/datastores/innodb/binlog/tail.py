"""Where the reading of a server's log ended, and the proof that it is still the same log when it continues."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from pydantic import Field

from strongroom.datastores.innodb.binlog.files import list_files
from strongroom.datastores.innodb.binlog.header import FORMAT, IN_USE, MAGIC
from strongroom.datastores.innodb.binlog.pieces import Piece, Position
from strongroom.datastores.innodb.binlog.reader import LAST_OFFSET, NEW_SERIES, DumpReader, FileSource, Idle
from strongroom.datastores.innodb.connection import connect, where
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.protocol.strict import Strict
from strongroom.errors import LineageChanged, LogCorrupt, WalGone

_FLAGS = 17
_MOST_EVENTS = 4
_HASH = r"^[0-9a-f]{64}$"


class Tail(Strict):
    """The last event that was read. Positions alone prove nothing: a new, restored or reset server uses the same names again."""

    file: str = Field(max_length=512)
    head: str = Field(pattern=_HASH, description="SHA-256 of the first events of the file: format, GTIDs before it, first GTID.")
    events: int = Field(ge=1, le=_MOST_EVENTS, description="How many events that are.")
    begin: int = Field(ge=4, description="Offset of the event.")
    end: int = Field(ge=4)
    sha256: str = Field(pattern=_HASH, description="Of the event.")

    @property
    def position(self) -> Position:
        return Position(self.file, self.end)


class TailKeeper:
    """Follows the pieces that are read, from the start of a file or from ``tail`` on."""

    def __init__(self, tail: Tail | None = None) -> None:
        self._tail = tail
        self._last: Piece | None = None
        self._file = tail.file if tail else ""
        self._head = tail.head if tail else ""
        self._head_hash = hashlib.sha256()
        self._events = tail.events if tail else 0
        self._has_head = tail is not None
        self._hash = self._last_hash = hashlib.sha256()

    def feed(self, piece: Piece) -> None:
        if piece.is_first:
            self._hash = hashlib.sha256()
            if piece.start.file != self._file:
                if piece.start.offset != len(MAGIC):
                    raise LogCorrupt(f"reading began within {piece.start.file}, whose head is not known")
                self._file, self._events, self._head_hash, self._has_head = piece.start.file, 0, hashlib.sha256(), False
        data = _clear_in_use(piece)
        self._hash.update(data)
        if not self._has_head:
            self._head_hash.update(data)
            if piece.is_last:
                self._head = self._head_hash.hexdigest()
                self._events += 1
                self._has_head = self._events == _MOST_EVENTS
        if piece.is_last and piece.end.offset <= LAST_OFFSET:
            self._last, self._last_hash = piece, self._hash

    @property
    def tail(self) -> Tail | None:
        """That of the last complete event. In a file of 4 GiB and more: of the last one after which reading may begin again."""
        if self._last is None:
            return self._tail
        return Tail(
            file=self._last.start.file,
            head=self._head,
            events=self._events,
            begin=self._last.start.offset,
            end=self._last.end.offset,
            sha256=self._last_hash.hexdigest(),
        )


def _clear_in_use(piece: Piece) -> bytes:
    """The server clears the flag when it closes a file."""
    if piece.header.kind != FORMAT or not piece.is_first or not piece.data[_FLAGS] & IN_USE:
        return piece.data
    return piece.data[:_FLAGS] + bytes([piece.data[_FLAGS] & ~IN_USE]) + piece.data[_FLAGS + 1 :]


def require_same_log(server: Server, tail: Tail, *, starts: frozenset[int], server_id: int) -> None:
    """Check that the server still has the file of ``tail``, as long as it was, with the same head and the same event.

    Raises WalGone (deleted), LineageChanged (another log), and what connecting and reading raise.
    """
    with connect(server) as connection:
        files = {file.name: file for file in list_files(server, connection)}
    found = files.get(tail.file)
    if found is None:
        first = next(iter(files), "")
        if first and tail.position.precedes(Position(first, 0)):
            raise WalGone(f"{where(server)} deleted {tail.file}, which the archive has read to {tail.end}", remedy=NEW_SERIES)
        raise _other(server, f"it has no {tail.file}")
    if found.size < tail.end:
        raise _other(server, f"its {tail.file} has {found.size} bytes, and {tail.end} were read")
    keeper = TailKeeper()
    for piece in _read_some(server, Position(tail.file, len(MAGIC)), tail.events, starts, server_id):
        keeper.feed(piece)
    if keeper.tail is None or keeper.tail.head != tail.head:
        raise _other(server, f"its {tail.file} begins otherwise")
    keeper = TailKeeper(tail)
    try:
        for piece in _read_some(server, Position(tail.file, tail.begin), 1, starts, server_id):
            keeper.feed(piece)
    except LogCorrupt:
        raise _other(server, f"no event begins at {tail.file}:{tail.begin}") from None
    if keeper.tail != tail:
        raise _other(server, f"its event at {tail.file}:{tail.begin} is another one")


def _read_some(server: Server, start: Position, events: int, starts: frozenset[int], server_id: int) -> Iterator[Piece]:
    with connect(server) as connection:
        reader = DumpReader(server, connection, FileSource(start, starts), server_id=server_id, follow=False)
        for piece in reader.read():
            if isinstance(piece, Idle):
                continue
            yield piece
            events -= piece.is_last
            if not events:
                return


def _other(server: Server, cause: str) -> LineageChanged:
    return LineageChanged(f"{where(server)} does not have the log that was read before: {cause}", remedy=NEW_SERIES)
