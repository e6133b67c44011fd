"""Private GTIDs in place of those of the source, and of transactions that have none."""

from __future__ import annotations

import bisect
import struct
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from strongroom.datastores.innodb.binlog.bodies import explain_damage
from strongroom.datastores.innodb.binlog.groups import Dialect
from strongroom.datastores.innodb.binlog.header import CHECKSUM, SIZE, Header
from strongroom.datastores.mysql.binlog.dialect import GTID, GTID_TAGGED, PREVIOUS_GTIDS, MySQLDialect, TaggedGtid, parse_tagged
from strongroom.datastores.mysql.binlog.gtids import GtidSet, Interval

PRIVATE = UUID("5f3a1c52-9d0e-4b7e-8a64-1f6f0c7d2e90")
_IGNORABLE = 0x80
_NO_GTIDS = (Header(time=0, kind=PREVIOUS_GTIDS, server_id=1, length=0, end=0, flags=_IGNORABLE), bytes(8))
"""An empty set of GTIDs before the file, which a server expects."""
_LOGICAL_CLOCK = 2
_AFTER_CLOCK = 42
_MORE_TIME = 1 << 55
_MORE_VERSION = 1 << 31


class MySQLRewriter:
    """See ``batches.Rewriter``. ``known`` are the GTIDs that the data has: a backup does not know its position exactly."""

    head: Sequence[tuple[Header, bytes]] = (_NO_GTIDS,)

    def __init__(self) -> None:
        self.dialect: Dialect = MySQLDialect()
        self._known: dict[str, tuple[Interval, ...]] = {}

    def know(self, gtids: GtidSet) -> None:
        self._known = {f"{uuid}:{tag}" if tag else uuid: parts for (uuid, tag), parts in gtids.intervals.items()}

    def has(self, gtid: str) -> bool:
        """See ``Rewriter``."""
        source, _, number = gtid.rpartition(":")
        parts = self._known.get(source)
        if not parts:
            return False
        at = bisect.bisect_right(parts, (int(number), 1 << 64)) - 1
        return at >= 0 and parts[at][0] <= int(number) < parts[at][1]

    def rewrite(self, header: Header, body: bytes, number: int) -> tuple[Header, bytes]:
        """Each one also waits for the one before it, for an applier with several threads."""
        with explain_damage("gtid"):
            clock = bytes([_LOGICAL_CLOCK]) + struct.pack("<qq", number - 1, number)
            if header.kind == GTID_TAGGED:
                found = parse_tagged(body)
                rest = clock + _describe(found, header)
                flags = found.flags
            else:
                flags, rest = body[0], body[25:]
                if len(body) > _AFTER_CLOCK and body[25] == _LOGICAL_CLOCK:
                    rest = clock + body[_AFTER_CLOCK:]
            head = bytes([flags & 0xFF]) + PRIVATE.bytes + struct.pack("<q", number)
            return replace(header, kind=GTID), head + rest


def _describe(found: TaggedGtid, header: Header) -> bytes:
    """The fields after the logical clock, in the older form: times, length of the transaction, versions."""
    has_time = found.original_time is not None
    times = (found.time | (_MORE_TIME if has_time else 0)).to_bytes(7, "little")
    times += found.original_time.to_bytes(7, "little") if found.original_time is not None else b""
    has_version = found.original_version is not None
    versions = struct.pack("<I", found.version | (_MORE_VERSION if has_version else 0))
    versions += struct.pack("<I", found.original_version) if found.original_version is not None else b""
    fixed = SIZE + 1 + 16 + 8 + 1 + 16 + len(times) + len(versions) + CHECKSUM
    without = found.length - header.length + fixed
    length = _pack_length(without)
    return times + _pack_length(without + len(length)) + versions


def _pack_length(number: int) -> bytes:
    """A number in the encoding of the client protocol."""
    if number < 251:
        return bytes([number])
    for mark, size in ((252, 2), (253, 3)):
        if number < 1 << 8 * size:
            return bytes([mark]) + number.to_bytes(size, "little")
    return b"\xfe" + number.to_bytes(8, "little")
