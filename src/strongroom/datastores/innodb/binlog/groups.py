"""Transactions of the log: the events from one GTID to the end of what it names."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import Literal, Protocol

from strongroom.datastores.innodb.binlog.bodies import (
    Query,
    explain_damage,
    parse_query,
    parse_table_id,
    parse_table_map,
    parse_xid,
)
from strongroom.datastores.innodb.binlog.header import (
    DELETES,
    FORMAT,
    INSERTS,
    QUERY,
    ROTATE,
    ROWS,
    SIZE,
    STOP,
    TABLE_MAP,
    XA_PREPARE,
    XID,
    Header,
)
from strongroom.datastores.innodb.binlog.pieces import Piece, Position
from strongroom.datastores.innodb.binlog.statements import LONGEST, Statement, describe_statement

MOST_TABLES = 1000
_TEXT = 500
_MOST_STATEMENTS = 100
_QUERY_COMPRESSED = 165


@dataclass(frozen=True, slots=True)
class Start:
    """What the GTID event at the beginning of a transaction says."""

    gtid: str
    """Empty if the server gives none (MySQL without GTIDs)."""
    is_single: bool | None = None
    """MariaDB: whether one statement follows, without an end of its own. None: not known."""
    is_ddl: bool = False
    is_transactional: bool = True
    commit_id: int | None = None
    """MariaDB: the number of its group commit."""
    committed_us: int | None = None
    """MySQL: when the server that logged it committed it, in microseconds."""


@dataclass(slots=True)
class Change:
    """Changes of one table in a transaction: bytes of events of rows by kind."""

    inserts: int = 0
    updates: int = 0
    deletes: int = 0


@dataclass(frozen=True, slots=True)
class LoggedStatement:
    """A statement that is no change of rows, with the beginning of its text."""

    described: Statement
    text: str
    seconds: int


@dataclass(slots=True)
class Group:
    """One transaction of the log, or one statement that is its own transaction."""

    start: Start
    first: Position
    server_id: int
    time: int
    """When the first statement began or the transaction was committed, in seconds, by the clock of the server that wrote it."""
    end: Position
    end_time: int = 0
    size: int = 0
    events: int = 0
    xid: int | None = None
    """On a node of a Galera cluster: the cluster's sequence number."""
    xa: Literal["", "prepared", "completed"] = ""
    """Whether it is the first or the second half of a distributed transaction (XA) of two phases."""
    tables: dict[tuple[str, str], Change] = field(default_factory=dict)
    has_more_tables: bool = False
    statements: list[LoggedStatement] = field(default_factory=list)
    is_complete: bool = False
    """False for a transaction that another one cut off, as a crash of the server may leave it."""


class Dialect(Protocol):
    """What is different in the log of a database."""

    @property
    def starts(self) -> frozenset[int]:
        """Events that begin a transaction."""
        ...

    @property
    def payload(self) -> int | None:
        """The event that holds a compressed transaction."""
        ...

    @property
    def state(self) -> int:
        """The event at the head of a file with the GTIDs of all files before it."""
        ...

    def parse_start(self, header: Header, body: bytes) -> Start: ...
    def open_payload(self, grouper: Grouper) -> Payload: ...

    def open_state(self, text: str) -> State: ...
    def parse_gtid(self, text: str) -> str:
        """One GTID as ``Start`` has it. Raises LogCorrupt if the text is not one."""
        ...


class State(Protocol):
    """The GTIDs of all transactions so far. Its text is that of the server."""

    def load(self, body: bytes) -> None:
        """Take those of the event at the head of a file."""
        ...

    def add(self, gtid: str) -> None: ...
    def __contains__(self, gtid: str) -> bool: ...
    def __str__(self) -> str: ...


class Payload(Protocol):
    """Receives the body of a compressed transaction, and gives its events to the grouper that opened it."""

    def feed(self, data: bytes) -> None: ...
    def finish(self) -> None: ...


class Grouper:
    """Turns pieces of events into transactions: ``feed`` each piece, in their order.

    Memory is bounded: tables and texts are limited, and bytes of rows are not kept.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._group: Group | None = None
        self._in_transaction = False
        self._ids: dict[int, tuple[str, str]] = {}
        self._body = b""
        self._payload: Payload | None = None

    @property
    def is_open(self) -> bool:
        """Whether a transaction has begun and not ended."""
        return self._group is not None

    @property
    def open_at(self) -> Position | None:
        """Where the transaction began that has not ended."""
        return self._group.first if self._group else None

    @property
    def open_start(self) -> Start | None:
        """What the GTID event of the transaction says that has not ended."""
        return self._group.start if self._group else None

    def feed(self, piece: Piece) -> list[Group]:
        """Transactions that end with this piece: none or one, two if the one before it was cut off."""
        header = piece.header
        data = piece.data
        if piece.is_last and piece.checksum:
            data = data[: -piece.checksum]
        if piece.is_first:
            data = data[SIZE:]
            self._body = b""
            if header.kind == self._dialect.payload and self._group is not None:
                self._payload = self._dialect.open_payload(self)
        if self._payload is not None:
            self._payload.feed(data)
        elif len(self._body) < LONGEST + SIZE:
            self._body += data
        if not piece.is_last:
            return []
        return self._end_event(piece)

    def _end_event(self, piece: Piece) -> list[Group]:
        header, done = piece.header, list[Group]()
        if header.is_artificial:
            return done
        if header.kind in self._dialect.starts or header.kind in (FORMAT, ROTATE, STOP):
            if self._group is not None:
                done.append(self._group)
                self._group = None
            if header.kind in self._dialect.starts:
                start = self._dialect.parse_start(header, self._body)
                self._group = Group(start, piece.start, header.server_id, header.time, piece.end)
                self._in_transaction = start.is_single is False
                self._ids = {}
        group = self._group
        if group is None:
            return done
        group.end, group.end_time = piece.end, header.time
        group.size += header.length
        group.events += 1
        if self._payload is not None:
            self._payload.finish()
            self._payload = None
            is_end = True
        else:
            is_end = self.look(header, self._body)
        if is_end:
            group.is_complete = True
            done.append(group)
            self._group = None
        return done

    def look(self, header: Header, body: bytes) -> bool:
        """Note what an event of the open transaction does; whether it ends it."""
        group = self._group
        assert group is not None
        kind = header.kind
        if kind in ROWS:
            self._count(header, parse_table_id(body))
        elif kind == TABLE_MAP:
            table = parse_table_map(body)
            if len(self._ids) < MOST_TABLES:
                self._ids[table.id] = (table.schema, table.table)
        elif kind == XID:
            group.xid = parse_xid(body)
            return True
        elif kind == XA_PREPARE:
            group.xa = "" if body[:1] == b"\x01" else "prepared"
            return True
        elif kind in (QUERY, _QUERY_COMPRESSED):
            query = parse_query(body)
            return self._end_statement(_uncompress(query) if kind == _QUERY_COMPRESSED else query)
        return False

    def _count(self, header: Header, table_id: int) -> None:
        assert self._group is not None
        name = self._ids.get(table_id)
        tables = self._group.tables
        if name is None or (name not in tables and len(tables) >= MOST_TABLES):
            self._group.has_more_tables |= name is not None or len(self._ids) >= MOST_TABLES
            return
        change = tables.setdefault(name, Change())
        if header.kind in INSERTS:
            change.inserts += header.length
        elif header.kind in DELETES:
            change.deletes += header.length
        else:
            change.updates += header.length

    def _end_statement(self, query: Query) -> bool:
        assert self._group is not None
        if query.text == b"BEGIN":  # almost always
            self._in_transaction = True
            return False
        found = describe_statement(query.text, query.schema)
        if found.kind == "begin" or found.verb == "XA START":
            self._in_transaction = True
            return False
        if found.kind in ("commit", "rollback"):
            return True
        if found.verb in ("XA COMMIT", "XA ROLLBACK"):
            self._group.xa = "completed"
            return True
        if found.kind not in ("savepoint", "xa") and len(self._group.statements) < _MOST_STATEMENTS:
            text = query.text[:_TEXT].decode(errors="replace")
            self._group.statements.append(LoggedStatement(found, text, query.seconds))
        return not self._in_transaction


def _uncompress(query: Query) -> Query:
    """The text of MariaDB's compressed statements: a byte with the size of the length, the length, and zlib's data."""
    with explain_damage("compressed query"):
        first = query.text[0]
        if not first & 0x80 or first & 0x70:
            raise ValueError
        try:
            text = zlib.decompressobj().decompress(query.text[1 + (first & 7) :], LONGEST)
        except zlib.error as error:
            raise ValueError from error
        return Query(query.schema, text, query.seconds, query.error)
