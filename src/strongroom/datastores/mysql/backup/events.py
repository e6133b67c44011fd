"""Reads binary logs for the decision whether they can be replayed: the tables that they change, and their statements."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from strongroom.datastores.innodb.binlog.bodies import parse_query, parse_table_map
from strongroom.datastores.innodb.binlog.header import INCIDENT, QUERY, SIZE, TABLE_MAP, Header
from strongroom.datastores.innodb.binlog.pieces import PIECE, Piece, Splitter
from strongroom.datastores.mysql.binlog.dialect import ANONYMOUS, GTID, GTID_TAGGED, TRANSACTION_PAYLOAD
from strongroom.datastores.mysql.binlog.payload import CompressedTransaction

GTIDS = {GTID, GTID_TAGGED}
STATEMENTS = {5, 9, 11, 13, 14, 17, 18}
"""Values of variables, random numbers and pieces of LOAD DATA: they only come with changes that were logged as statements."""
_PASSED = {3, 4, 15, 16, 23, 24, 25, 27, 29, 30, 31, 32, 35, 36, 37, 38, 39, 41}
_MARKS = {INCIDENT, ANONYMOUS} | GTIDS | STATEMENTS
_IGNORABLE = 0x80
_QUIET = (b"BEGIN", b"COMMIT")
_NO_BACKSLASH_ESCAPES = 1 << 20


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that is replayed as text."""

    schema: str
    text: str
    plain_backslashes: bool = False
    """Whether a backslash is an ordinary character (sql_mode NO_BACKSLASH_ESCAPES)."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A table with changed rows."""

    schema: str
    table: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An event of another kind: its number."""

    kind: int


Event = Statement | Changed | Mark


def read_events(path: Path, start: int = 4) -> Iterator[Event]:
    """The events of a log from this position on. Immediate repetitions of a table are left out.

    Raises LogCorrupt if it is no binary log. A log that is still written ends where its last whole event ends.
    """
    splitter, looker = Splitter(path.name, has_gaps=True), _Looker()
    with path.open("rb") as file:
        while data := file.read(PIECE):
            for piece in splitter.feed(data):
                if piece.start.offset >= start:
                    yield from looker.take(piece)


class _Looker:
    """Turns pieces of the log into what matters for a replay."""

    def __init__(self) -> None:
        self._found: list[Event] = []
        self._body = bytearray()
        self._payload: CompressedTransaction | None = None
        self._last = b""
        """The last event that named a table, without the table's number."""

    def take(self, piece: Piece) -> list[Event]:
        kind = piece.header.kind
        data = piece.data[SIZE if piece.is_first else 0 : len(piece.data) - (piece.checksum if piece.is_last else 0)]
        if piece.is_first:
            self._body.clear()
            self._payload = CompressedTransaction(self) if kind == TRANSACTION_PAYLOAD else None
        if self._payload is not None:
            self._payload.feed(data)
            if piece.is_last:
                self._payload.finish()
        elif kind in (QUERY, TABLE_MAP):
            self._body += data
        if piece.is_last and kind != TRANSACTION_PAYLOAD:
            self.look(piece.header, bytes(self._body))
        found, self._found = self._found, []
        return found

    def look(self, header: Header, body: bytes) -> bool:
        """An event of the log, or of a compressed transaction in it."""
        if header.kind == TABLE_MAP:
            if body[8:] != self._last:
                self._last = body[8:]
                table = parse_table_map(body)
                self._found.append(Changed(table.schema, table.table))
        elif header.kind == QUERY:
            query = parse_query(body)
            if query.text not in _QUIET:
                plain = bool(_sql_mode(query.variables) & _NO_BACKSLASH_ESCAPES)
                self._found.append(Statement(query.schema, query.text.decode(errors="replace"), plain))
        elif header.kind in _MARKS or (header.kind not in _PASSED and not header.flags & _IGNORABLE):
            self._found.append(Mark(header.kind))
        return False


def _sql_mode(variables: bytes) -> int:
    """The mode of a statement by its variables: flags come first, then the mode."""
    at = 5 if variables[:1] == b"\0" else 0
    return int.from_bytes(variables[at + 1 : at + 9], "little") if variables[at : at + 1] == b"\1" else 0
