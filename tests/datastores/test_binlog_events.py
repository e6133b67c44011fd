"""Events and transactions of binary logs, from bytes that may be hostile."""

from __future__ import annotations

import socket
import struct
import threading
import tracemalloc
import zlib
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.datastores.innodb.binlog.bodies import parse_rotate
from strongroom.datastores.innodb.binlog.groups import MOST_TABLES, Change, Dialect, Group, Grouper
from strongroom.datastores.innodb.binlog.header import Header
from strongroom.datastores.innodb.binlog.packets import Disconnected, Packets
from strongroom.datastores.innodb.binlog.pieces import PIECE, Piece, Position, Splitter
from strongroom.datastores.innodb.binlog.statements import describe_statement
from strongroom.datastores.innodb.binlog.tail import TailKeeper
from strongroom.datastores.mariadb.binlog.dialect import MariaDBDialect
from strongroom.datastores.mysql.binlog.dialect import MySQLDialect
from strongroom.errors import LogCorrupt
from support.binlogs import MAGIC, event, format_event, log

_UUID = bytes(range(16))
_COMMITTED = 1_700_000_000_123_456


def mariadb_gtid(sequence: int, flags: int = 4, extra: bytes = bytes(6)) -> tuple[int, bytes]:
    return 162, struct.pack("<QIB", sequence, 0, flags) + extra


def query(text: bytes, schema: bytes = b"d") -> tuple[int, bytes]:
    return 2, struct.pack("<IIBHH", 1, 3, len(schema), 0, 2) + b"vv" + schema + b"\0" + text


def table_map(number: int, table: bytes) -> tuple[int, bytes]:
    return 19, number.to_bytes(6, "little") + b"\1\0" + b"\1d\0" + bytes([len(table)]) + table + b"\0\1\3\0\0"


def rows(kind: int, number: int, size: int = 10) -> tuple[int, bytes]:
    return kind, number.to_bytes(6, "little") + bytes(size)


def xid(number: int) -> tuple[int, bytes]:
    return 16, struct.pack("<Q", number)


TRANSACTION = [mariadb_gtid(5), table_map(9, b"t"), rows(23, 9), rows(25, 9), xid(77)]
SAMPLE = log(
    [
        (163, struct.pack("<IIIQ", 1, 0, 7, 4)),
        *TRANSACTION,
        mariadb_gtid(6, 1 | 32),
        query(b"DROP TABLE IF EXISTS `t`, e.u /* by a person */"),
        mariadb_gtid(7),
        (165, query(bytes([0x82, 0, 24]) + zlib.compress(b"CREATE TABLE x AS SELECT 1"))[1]),
        xid(78),
        (4, struct.pack("<Q", 4) + b"binlog.000002"),
    ]
)


def split(data: bytes, sizes: list[int] | None = None, file: str | None = "binlog.000001") -> list[Piece]:
    splitter, found, at = Splitter(file), list[Piece](), 0
    for size in [*(sizes or []), len(data)]:
        found += splitter.feed(data[at : at + size])
        at += size
    splitter.finish()
    return found


def group(data: bytes, dialect: Dialect) -> list[Group]:
    grouper = Grouper(dialect)
    return [found for piece in split(data) for found in grouper.feed(piece)]


def test_transactions_of_mariadb() -> None:
    first, second, third = group(SAMPLE, MariaDBDialect())
    assert (first.start.gtid, first.xid, first.events, first.is_complete) == ("0-7-5", 77, 5, True)
    assert first.tables == {("d", "t"): Change(inserts=39, deletes=39)}
    assert second.first == first.end and second.start.is_ddl
    (dropped,) = second.statements
    assert dropped.described.verb == "DROP TABLE" and dropped.described.names == (("d", "t"), ("e", "u")) and dropped.seconds == 3
    assert third.statements[0].text == "CREATE TABLE x AS SELECT 1" and third.xid == 78
    with_group = log([mariadb_gtid(5, 2 | 4, struct.pack("<Q", 991)), xid(1)])
    assert group(with_group, MariaDBDialect())[0].start.commit_id == 991


def mysql_gtid(number: int, kind: int = 33) -> tuple[int, bytes]:
    return kind, b"\1" + _UUID + struct.pack("<QBqq", number, 2, 0, 1) + (1_700_000_000_123_456).to_bytes(
        7, "little"
    ) + b"\xfc\0\1"


def payload(events: bytes, *, compressed: bool = True, size: int | None = None) -> tuple[int, bytes]:
    data = zstandard.ZstdCompressor().compress(events) if compressed else events
    number = b"\xfe" + struct.pack("<Q", len(data) if size is None else size)
    return 40, b"\1\x09" + number + (b"\2\1\0" if compressed else b"\2\3\xfc\xff\0") + b"\0" + data


def inner(events: list[tuple[int, bytes]]) -> bytes:
    return b"".join(event(kind, body, 0, checksum=False) for kind, body in events)


def test_transactions_of_mysql() -> None:
    uuid = "00010203-0405-0607-0809-0a0b0c0d0e0f"
    begin = query(b"BEGIN")
    data = log(
        [
            mysql_gtid(3),
            query(b"TRUNCATE d.t"),
            mysql_gtid(4),
            begin,
            table_map(1, b"t"),
            rows(30, 1),
            query(b"ROLLBACK TO `s`"),
            xid(9),
            mysql_gtid(5),
            payload(inner([begin, table_map(1, b"t"), rows(31, 1), xid(10)])),
            mysql_gtid(0, 34),
            query(b"CREATE DATABASE e"),
            mysql_gtid(6),
            query(b"XA START X'61',X'',1"),
            query(b"XA END X'61',X'',1"),
            (38, b"\0" + bytes(14)),
            mysql_gtid(7),
            query(b"XA COMMIT X'61',X'',1"),
        ]
    )
    truncated, plain, packed, anonymous, prepared, committed = found = group(data, MySQLDialect())
    assert [each.start.gtid for each in found] == [f"{uuid}:3", f"{uuid}:4", f"{uuid}:5", "", f"{uuid}:6", f"{uuid}:7"]
    assert all(each.is_complete for each in found) and truncated.start.committed_us == _COMMITTED
    assert truncated.statements[0].described.names == (("d", "t"),) and anonymous.statements[0].described.names == (("e", ""),)
    assert plain.tables == {("d", "t"): Change(inserts=39)} and not plain.statements and plain.xid == 9
    assert packed.tables == {("d", "t"): Change(updates=35)} and packed.xid == 10 and packed.events == 2
    assert (prepared.xa, committed.xa) == ("prepared", "completed")


def test_a_transaction_that_is_cut_off_is_not_complete() -> None:
    cut, whole = group(log([*TRANSACTION[:3], *TRANSACTION]), MariaDBDialect())
    assert not cut.is_complete and whole.is_complete and cut.end == whole.first


@pytest.mark.parametrize(("text", "verb", "names"), [
    (b"create or replace table if not exists `a``b`.c (x int)", "CREATE TABLE", (("a`b", "c"),)),
    (b"/* who */ DROP /*!40005 TEMPORARY */ TABLE `t`,e . u", "DROP TABLE", (("d", "t"), ("e", "u"))),
    (b"-- note\nRENAME TABLE a TO b.c, e TO f", "RENAME TABLE", (("d", "a"), ("b", "c"), ("d", "e"), ("d", "f"))),
    (b"truncate t", "TRUNCATE TABLE", (("d", "t"),)),
    (b"alter online ignore table t wait 5 drop column x", "ALTER TABLE", (("d", "t"),)),
    (b"CREATE UNIQUE INDEX i USING BTREE ON e.t (a)", "CREATE INDEX", (("e", "t"),)),
    (b"drop database if exists `x y`", "DROP DATABASE", (("x y", ""),)),
    (b"create trigger g before insert on t for each row set @a = 'on x'", "CREATE TRIGGER", (("d", "t"),)),
    (b"CREATE USER u@localhost", "CREATE USER", ()),
    (b"", "", ()),
])  # fmt: skip
def test_names_in_statements(text: bytes, verb: str, names: tuple[tuple[str, str], ...]) -> None:
    found = describe_statement(text, "d")
    assert (found.verb, found.names) == (verb, names)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_statement_is_described(text: bytes) -> None:
    describe_statement(b"DROP TABLE " + text, "d")
    describe_statement(text)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=30))
def test_pieces_do_not_depend_on_how_bytes_arrive(sizes: list[int]) -> None:
    assert split(SAMPLE, sizes) == split(SAMPLE)
    assert MAGIC + b"".join(piece.data for piece in split(SAMPLE, sizes)) == SAMPLE


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(SAMPLE) * 8 - 1))
def test_every_changed_bit_is_noticed(bit: int) -> None:
    data = bytearray(SAMPLE)
    data[bit // 8] ^= 1 << bit % 8
    in_use = (4 + 17) * 8
    if bit != in_use:  # the flag is not in the checksum, because the server clears it later
        with pytest.raises(LogCorrupt):
            split(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_an_error_of_its_own(data: st.DataObject) -> None:
    """Without checksums a damaged body may be read, but never ends in another error."""
    dialect = data.draw(st.sampled_from([MariaDBDialect(), MySQLDialect()]))
    kinds = st.sampled_from([2, 3, 4, 16, 19, 23, 33, 34, 38, 40, 42, 162, 163, 165])
    valid = st.sampled_from([*TRANSACTION, mysql_gtid(3), payload(inner(TRANSACTION)), payload(b"x", compressed=False)])
    events = data.draw(st.lists(st.one_of(valid, st.tuples(kinds, st.binary(max_size=60))), max_size=8))
    with suppress(LogCorrupt):
        group(log([mariadb_gtid(1), mysql_gtid(1), *events], checksums=False), dialect)


@pytest.mark.parametrize("data", [
    b"", b"\xfebi", b"PGDMP", MAGIC + event(16, bytes(8), 4), SAMPLE[:-1], SAMPLE + b"\0" * 19, MAGIC + format_event(5),
    MAGIC + format_event() + struct.pack("<IBIIIH", 0, 16, 7, 0xFFFFFFFF, 0, 0),
])  # fmt: skip
def test_what_is_no_whole_log(data: bytes) -> None:
    with pytest.raises(LogCorrupt):
        split(data)
    with pytest.raises(LogCorrupt):
        parse_rotate(struct.pack("<Q", 4) + b"../../etc/passwd")


def test_memory_is_bounded() -> None:
    """A huge event, many tables, and a compressed transaction that is a thousand times longer when it is uncompressed."""
    huge = 64 << 20
    begin = query(b"BEGIN")
    bomb = payload(inner([begin, table_map(1, b"t"), rows(30, 1, huge), xid(10)]))
    assert len(bomb[1]) < 1 << 17
    packed = log([mysql_gtid(4), bomb])
    maps = [table_map(number, b"t%d" % number) for number in range(2 * MOST_TABLES)]
    many = log([mysql_gtid(5), begin, *maps, rows(30, 1), rows(30, 2 * MOST_TABLES - 1), xid(1)])
    tracemalloc.start()
    found = [*group(packed, MySQLDialect()), *group(many, MySQLDialect())]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[0].tables == {("d", "t"): Change(inserts=huge + 25)} and found[1].has_more_tables
    assert peak < 24 << 20


def test_an_event_of_many_pieces() -> None:
    data = log([mariadb_gtid(1), table_map(9, b"t"), rows(23, 9, 3 * PIECE), xid(1)])
    pieces = split(data, [PIECE // 3] * 12)
    assert max(len(piece.data) for piece in pieces) == PIECE and MAGIC + b"".join(piece.data for piece in pieces) == data
    (found,) = group(data, MariaDBDialect())
    assert found.tables[("d", "t")].inserts > 3 * PIECE
    with pytest.raises(LogCorrupt, match="wrong checksum"):
        split(data[: 2 * PIECE] + b"x" + data[2 * PIECE + 1 :])


def test_order_of_positions() -> None:
    assert Position.parse("binlog.1000000:4") == Position("binlog.1000000", 4)
    assert Position("binlog.999999", 9).precedes(Position("binlog.1000000", 4))
    assert not Position("a.000002", 5).precedes(Position("a.000002", 4))
    for text in ("", "binlog.000001", "binlog.000001:", ":4", "a:-4"):
        with pytest.raises(ValueError, match="not a position"):
            Position.parse(text)


def packets(data: bytes) -> Packets:
    """What a server sent before it closed the connection."""
    mine, other = socket.socketpair()
    threading.Thread(target=lambda: (other.sendall(data), other.close())).start()
    return Packets(mine, 5)


def packet(number: int, data: bytes) -> bytes:
    return len(data).to_bytes(3, "little") + bytes([number]) + data


def test_packets() -> None:
    """A message of exactly 16 MiB - 1 is followed by an empty packet."""
    full = bytes(0xFFFFFF)
    sent = packets(packet(1, b"\0abc") + packet(2, full) + packet(3, b"") + packet(4, b"\0" + full[1:]) + packet(5, b"end"))
    assert (sent.begin(), sent.take(3)) == (0, b"abc")
    sent.finish()
    assert (sent.begin(), len(sent.take(0xFFFFFE))) == (0, 0xFFFFFE)
    sent.finish()
    assert (sent.begin(), sent.take(0xFFFFFF + 2)[-3:]) == (0, b"end")
    sent.finish()
    with pytest.raises(Disconnected, match="closed"):
        sent.begin()


@pytest.mark.parametrize(("data", "error"), [
    (packet(1, b""), LogCorrupt),
    (packet(1, b"\0ab"), LogCorrupt),
    (packet(1, b"\0abcd"), LogCorrupt),
    (packet(0, b"\0abc"), Disconnected),
    (packet(1, b"\0abc")[:-1], Disconnected),
])  # fmt: skip
def test_packets_of_a_hostile_server(data: bytes, error: type[Exception]) -> None:
    sent = packets(data)
    with pytest.raises(error):
        sent.begin()
        sent.take(3)
        sent.finish()


def test_the_tail_is_where_reading_may_begin() -> None:
    """The protocol has offsets of 32 bits: in a longer file, it is an event before that."""
    keeper = TailKeeper()
    at = 4
    for _ in range(6):
        header = Header(0, 23, 7, 1 << 30, 0, 0)
        keeper.feed(Piece(header, Position("binlog.000001", at), b"x"))
        at += header.length
    assert keeper.tail is not None and keeper.tail.end == 3 * (1 << 30) + 4
    assert TailKeeper(keeper.tail).tail == keeper.tail
    keeper.feed(Piece(Header(0, 15, 7, 100, 0, 0), Position("binlog.000002", 4), bytes(100)))
    assert keeper.tail.position == Position("binlog.000002", 104) and keeper.tail.events == 1
    with pytest.raises(LogCorrupt, match="reading began within"):
        TailKeeper().feed(Piece(header, Position("binlog.000001", 99), b"x"))
