"""Events that only MySQL has."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from uuid import UUID

from strongroom.datastores.innodb.binlog.bodies import explain_damage
from strongroom.datastores.innodb.binlog.groups import Grouper, Payload, Start
from strongroom.datastores.innodb.binlog.header import Header
from strongroom.datastores.mysql.binlog.gtids import GtidSet
from strongroom.datastores.mysql.binlog.payload import CompressedTransaction
from strongroom.errors import LogCorrupt

GTID, ANONYMOUS, PREVIOUS_GTIDS, TRANSACTION_PAYLOAD, GTID_TAGGED = 33, 34, 35, 40, 42
_TIME = (1 << 55) - 1
_LOGICAL_CLOCK = 2
_FLAGS, _UUID, _NUMBER, _TAG, _COMMITTED, _FIRST_COMMITTED, _LENGTH, _VERSION, _FIRST_VERSION = 0, 1, 2, 3, 6, 7, 8, 9, 10
_LAST_NEEDED = _FIRST_VERSION
_MOST_NEW = 1000


class MySQLDialect:
    """See ``groups.Dialect``."""

    starts = frozenset({GTID, ANONYMOUS, GTID_TAGGED})
    payload: int | None = TRANSACTION_PAYLOAD
    state = PREVIOUS_GTIDS

    def parse_start(self, header: Header, body: bytes) -> Start:
        with explain_damage("gtid"):
            if header.kind == GTID_TAGGED:
                tagged = parse_tagged(body)
                return Start(tagged.gtid, committed_us=tagged.time)
            (number,) = struct.unpack_from("<Q", body, 17)
            gtid = "" if header.kind == ANONYMOUS else f"{UUID(bytes=bytes(body[1:17]))}:{number}"
            committed = None
            if len(body) >= 42 + 7 and body[25] == _LOGICAL_CLOCK:
                committed = int.from_bytes(body[42:49], "little") & _TIME
            return Start(gtid, committed_us=committed)

    def open_payload(self, grouper: Grouper) -> Payload:
        return CompressedTransaction(grouper)

    def open_state(self, text: str) -> LoggedGtids:
        return LoggedGtids(GtidSet.parse(text))

    def parse_gtid(self, text: str) -> str:
        found = GtidSet.parse(text)
        if len(found) != 1:
            raise LogCorrupt(f"{text[:80]!r} is not one GTID of MySQL (uuid:77)")
        return str(found)


class LoggedGtids:
    """See ``groups.State``."""

    def __init__(self, gtids: GtidSet) -> None:
        self._gtids = gtids
        self._new: list[str] = []

    def load(self, body: bytes) -> None:
        self._gtids, self._new = GtidSet.decode(body), []

    def add(self, gtid: str) -> None:
        if gtid:
            self._new.append(gtid)
        if len(self._new) >= _MOST_NEW:
            self._merge()

    def __contains__(self, gtid: str) -> bool:
        self._merge()
        return gtid in self._gtids

    def __str__(self) -> str:
        self._merge()
        return str(self._gtids)

    def _merge(self) -> None:
        self._gtids |= GtidSet.parse(",".join(self._new))
        self._new.clear()


@dataclass(frozen=True, slots=True)
class TaggedGtid:
    """The fields of a GTID_TAGGED event. Those that are None are in the log only if they differ from the field before."""

    flags: int
    gtid: str
    time: int
    original_time: int | None
    length: int
    version: int
    original_version: int | None


def parse_tagged(body: bytes) -> TaggedGtid:
    """Fields with their numbers, in the format of MySQL's serialization library: version, size, the last field that is needed."""
    at = 0
    for _ in range(3):
        _, at = read_number(body, at)
    fields: dict[int, int] = {}
    uuid, tag = b"", ""
    while at < len(body):
        number, at = read_number(body, at)
        if number == _UUID:
            octets = []
            for _ in range(16):
                octet, at = read_number(body, at)
                octets.append(octet)
            uuid = bytes(octets)
        elif number == _TAG:
            length, at = read_number(body, at)
            tag = body[at : at + length].decode("ascii")
            if len(tag) != length or length > 32:
                raise ValueError
            at += length
        else:
            fields[number], at = read_number(body, at)
        if number >= _LAST_NEEDED:
            break
    middle = f":{tag}" if tag else ""
    return TaggedGtid(
        flags=fields.get(_FLAGS, 0),
        gtid=f"{UUID(bytes=uuid)}{middle}:{_signed(fields[_NUMBER])}",
        time=fields[_COMMITTED],
        original_time=fields.get(_FIRST_COMMITTED),
        length=fields.get(_LENGTH, 0),
        version=fields.get(_VERSION, 0),
        original_version=fields.get(_FIRST_VERSION),
    )


def read_number(data: bytes, at: int) -> tuple[int, int]:
    """A number of variable length, and the offset after it. As many low bits of its first byte are 1 as bytes follow it."""
    first = data[at]
    more = 0
    while more < 8 and first >> more & 1:
        more += 1
    if at + 1 + more > len(data):
        raise ValueError
    whole = int.from_bytes(data[at : at + 1 + more], "little")
    return whole >> (more + 1 if more < 8 else 8), at + 1 + more


def _signed(number: int) -> int:
    """A signed number has its sign in the lowest bit."""
    return -(number >> 1) - 1 if number & 1 else number >> 1
