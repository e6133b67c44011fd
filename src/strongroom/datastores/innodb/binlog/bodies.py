"""The bodies of events that MariaDB and MySQL share. A body has neither header nor checksum, and may be cut after its names."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from strongroom.errors import LogCorrupt

_QUERY = struct.Struct("<IIBHH")
_FORMAT = struct.Struct("<H50sIB")
_CRC32 = 1


@dataclass(frozen=True, slots=True)
class FormatDescription:
    """The first event of a file: the version of its server, and whether events have checksums."""

    server_version: str
    created: int
    has_checksums: bool


@dataclass(frozen=True, slots=True)
class Rotate:
    """The file that follows, and the offset in it."""

    file: str
    offset: int


@dataclass(frozen=True, slots=True)
class Query:
    """A statement as text. ``seconds`` is how long it ran; ``variables`` are settings of its session, encoded."""

    schema: str
    text: bytes
    seconds: int
    error: int
    variables: bytes = b""


@dataclass(frozen=True, slots=True)
class TableMap:
    """The table of the rows events that name its id."""

    id: int
    schema: str
    table: str


@contextmanager
def explain_damage(what: str) -> Iterator[None]:
    """Turn errors of parsing into LogCorrupt."""
    try:
        yield
    except (struct.error, IndexError, ValueError, KeyError, OverflowError) as error:
        raise LogCorrupt(f"the binary log has an event ({what}) with a damaged body") from error


def parse_format(data: bytes) -> FormatDescription:
    """A FORMAT_DESCRIPTION event: the whole event, because its checksum is always there, and the algorithm precedes it."""
    with explain_damage("format description"):
        version, server, created, length = _FORMAT.unpack_from(data, 19)
        algorithm = data[-5]
        if version != 4 or length != 19 or algorithm not in (0, _CRC32) or len(data) < 19 + _FORMAT.size + 5:
            raise ValueError
        return FormatDescription(server.rstrip(b"\0").decode("ascii"), created, algorithm == _CRC32)


def parse_rotate(body: bytes) -> Rotate:
    with explain_damage("rotate"):
        (offset,) = struct.unpack_from("<Q", body)
        name = body[8:]
        if not 0 < len(name) <= 512 or b"/" in name or b"\0" in name:
            raise ValueError
        return Rotate(name.decode(), offset)


def parse_query(body: bytes) -> Query:
    """A QUERY event. Its text may be cut."""
    with explain_damage("query"):
        _, seconds, schema_length, error, variables = _QUERY.unpack_from(body)
        at = _QUERY.size + variables
        if len(body) <= at + schema_length:
            raise ValueError
        schema = body[at : at + schema_length].decode(errors="replace")
        return Query(schema, body[at + schema_length + 1 :], seconds, error, body[_QUERY.size : at])


def parse_xid(body: bytes) -> int:
    """The number of a committed transaction. On a node of a Galera cluster it is the cluster's sequence number (wsrep seqno)."""
    with explain_damage("xid"):
        (number,) = struct.unpack_from("<Q", body)
        return int(number)


def parse_table_map(body: bytes) -> TableMap:
    with explain_damage("table map"):
        names = []
        at = 8
        for _ in range(2):
            length = body[at]
            if len(body) <= at + 1 + length:
                raise ValueError
            names.append(body[at + 1 : at + 1 + length].decode(errors="replace"))
            at += length + 2
        return TableMap(int.from_bytes(body[:6], "little"), names[0], names[1])


def parse_table_id(body: bytes) -> int:
    """The id of the table of a rows event."""
    if len(body) < 6:
        raise LogCorrupt("the binary log has an event (rows) with a damaged body")
    return int.from_bytes(body[:6], "little")
