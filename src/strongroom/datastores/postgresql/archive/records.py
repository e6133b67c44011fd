"""Records of WAL that an archive has to understand: the ends of transactions, and restore points. PostgreSQL 15 to 19.

See ``xact.h``, ``xactdesc.c`` and ``pg_control.h`` of PostgreSQL. Times are microseconds since 1970, UTC.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

HEADER = struct.Struct("<IIQBBxxI")
"""Length, transaction, position of the record before, info, resource manager, CRC."""
XLOG, TRANSACTION = 0, 1
SWITCH, RESTORE_POINT = 0x40, 0x70
_KIND, _HAS_INFO = 0x70, 0x80
_COMMIT, _ABORT, _COMMIT_PREPARED, _ABORT_PREPARED = 0x00, 0x20, 0x30, 0x40
ENDS = frozenset({_COMMIT, _ABORT, _COMMIT_PREPARED, _ABORT_PREPARED})
_HAS_DATABASE, _HAS_SUBTRANSACTIONS, _HAS_FILES = 1, 2, 4
_SHORT, _LONG, _ORIGIN, _TOP = 255, 254, 253, 252
"""The first byte of a part of a record that is not a block: its own data (with a short or long length), or what precedes it."""
_EPOCH = 946_684_800_000_000
"""2000-01-01, with which PostgreSQL's times begin."""
_DEFAULT, _GLOBAL = 1663, 1664
"""Object ids of the tablespaces ``pg_default`` and ``pg_global``."""
_MOST_FILES = 10_000
_NAME = 64


class RecordDamaged(ValueError):
    """A record does not have the format that its header states."""


@dataclass(frozen=True, slots=True)
class TransactionEnd:
    """A commit or an abort. Recovery to a time stops before the first one whose time is later."""

    start: int
    end: int
    transaction: int
    time: int
    commits: bool
    files: tuple[str, ...] = ()
    """Files of relations that it removes: of tables that were dropped, truncated or rewritten."""


@dataclass(frozen=True, slots=True)
class RestorePoint:
    """A named point, from ``pg_create_restore_point``."""

    start: int
    end: int
    time: int
    name: str


def is_needed(manager: int, info: int) -> bool:
    """Whether ``parse_record`` understands the record, by its header."""
    if manager == TRANSACTION:
        return info & _KIND in ENDS
    return manager == XLOG and info & 0xF0 == RESTORE_POINT


def parse_record(record: bytes | bytearray | memoryview, start: int, end: int) -> TransactionEnd | RestorePoint:
    """The record from ``start`` to ``end``, of which only the beginning may be there. Raises RecordDamaged."""
    try:
        _, transaction, _, info, manager, _ = HEADER.unpack_from(record)
        data = _find_data(record)
        (time,) = struct.unpack_from("<q", record, data)
        if manager == XLOG:
            name = bytes(record[data + 8 : data + 8 + _NAME]).partition(b"\0")[0]
            return RestorePoint(start, end, time + _EPOCH, name.decode("utf-8", "backslashreplace"))
        kind = info & _KIND
        files = _parse_files(record, data + 8) if info & _HAS_INFO else ()
        return TransactionEnd(start, end, transaction, time + _EPOCH, kind in (_COMMIT, _COMMIT_PREPARED), files)
    except struct.error as error:
        raise RecordDamaged("the record is too short") from error


def _find_data(record: bytes | bytearray | memoryview) -> int:
    """Where the record's own data begins."""
    at = HEADER.size
    while True:
        if at >= len(record):
            raise RecordDamaged("the record has no data")
        marker = record[at]
        if marker == _SHORT:
            return at + 2
        if marker == _LONG:
            return at + 5
        if marker == _ORIGIN:
            at += 3
        elif marker == _TOP:
            at += 5
        else:
            raise RecordDamaged(f"the record has a block ({marker}) before its data")


def _parse_files(record: bytes | bytearray | memoryview, at: int) -> tuple[str, ...]:
    (has,) = struct.unpack_from("<I", record, at)
    at += 4
    if has & _HAS_DATABASE:
        at += 8
    if has & _HAS_SUBTRANSACTIONS:
        (count,) = struct.unpack_from("<i", record, at)
        if count < 0:
            raise RecordDamaged("the record has a negative number of subtransactions")
        at += 4 + 4 * count
    if not has & _HAS_FILES:
        return ()
    (count,) = struct.unpack_from("<i", record, at)
    if not 0 <= count <= len(record):
        raise RecordDamaged("the record has an impossible number of files")
    places = struct.iter_unpack("<III", record[at + 4 : at + 4 + 12 * min(count, _MOST_FILES)])
    return tuple(_describe_file(*place) for place in places)


def _describe_file(tablespace: int, database: int, number: int) -> str:
    """The path of a relation in the data directory; in a tablespace, without the directory of the version."""
    if tablespace == _DEFAULT:
        return f"base/{database}/{number}"
    if tablespace == _GLOBAL:
        return f"global/{number}"
    return f"pg_tblspc/{tablespace}/{database}/{number}"
