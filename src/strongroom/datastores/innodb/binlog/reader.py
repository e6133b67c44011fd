"""Reads the binary log of a running server by the replication protocol, as a replica does."""

from __future__ import annotations

import socket
import struct
import threading
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import pymysql
from pymysql.connections import Connection

from strongroom.datastores.innodb.binlog.bodies import FormatDescription, parse_format, parse_rotate
from strongroom.datastores.innodb.binlog.header import (
    CHECKSUM,
    FORMAT,
    HEARTBEAT,
    HEARTBEAT_V2,
    MAGIC,
    ROTATE,
    SIZE,
    Checksum,
    Header,
    parse_header,
)
from strongroom.datastores.innodb.binlog.packets import Disconnected, Packets, split
from strongroom.datastores.innodb.binlog.pieces import PIECE, Piece, Position
from strongroom.datastores.innodb.connection import explain_refusals, parts, query, where
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ConfigurationError, LineageChanged, LogCorrupt, ServerFailed, StrongroomError, WalGone

HEARTBEAT_SECONDS = 5.0
_DUMP, _REGISTER = 0x12, 0x15
_OK, _EOF = 0x00, 0xFE
_NO_BLOCK = 1
_FATAL = 1236
_NO_RIGHT = {1045, 1227}
_WITH_ANNOTATIONS = 2
"""MariaDB leaves out ANNOTATE_ROWS without it, and then offsets are not those of its files."""
LAST_OFFSET = (1 << 32) - 1
"""At which reading may begin. Only a long transaction makes a file longer; it is the last one of its file."""
NEW_SERIES = "Begin a new series of the log archive, and take a full backup."


@dataclass(frozen=True, slots=True)
class Idle:
    """The server had nothing after this position."""

    end: Position


@dataclass(frozen=True, slots=True)
class Command:
    """A command of the protocol that starts the dump."""

    code: int
    payload: bytes


class Source(Protocol):
    """How the log of a database is asked for. ``starts`` are events that begin a transaction."""

    @property
    def starts(self) -> frozenset[int]: ...

    @property
    def after_gtids(self) -> bool:
        """Whether the server leaves out transactions that the reader has, by their GTIDs."""
        ...

    def prepare(self, connection: Connection[Any], heartbeat: float) -> None: ...
    def command(self, server_id: int, flags: int) -> Command: ...


class FileSource:
    """From an offset of a file on: the way that both databases understand."""

    after_gtids = False

    def __init__(self, start: Position, starts: frozenset[int]) -> None:
        self._start = start
        self.starts = starts

    def prepare(self, connection: Connection[Any], heartbeat: float) -> None:
        prepare(connection, heartbeat)
        query(connection, "SET @mariadb_slave_capability = 4, @slave_connect_state = NULL")

    def command(self, server_id: int, flags: int) -> Command:
        if not len(MAGIC) <= self._start.offset <= LAST_OFFSET:
            raise LogCorrupt(f"reading cannot begin at {self._start}: the protocol has no such offset")
        return dump_command(self._start.offset, self._start.file, server_id, flags)


def prepare(connection: Connection[Any], heartbeat: float) -> None:
    """Tell the server what the reader understands: checksums, and a sign of life when nothing happens."""
    query(connection, "SET @master_binlog_checksum = 'NONE', @source_binlog_checksum = 'NONE'")  # artificial events have none
    query(connection, f"SET @master_heartbeat_period = {int(heartbeat * 1e9)}, @source_heartbeat_period = {int(heartbeat * 1e9)}")


def dump_command(offset: int, file: str, server_id: int, flags: int) -> Command:
    """COM_BINLOG_DUMP."""
    return Command(_DUMP, struct.pack("<IHI", offset, flags | _WITH_ANNOTATIONS, server_id) + file.encode())


class DumpReader:
    """Yields the events of the log from ``source`` on: as they are in the server's files, verified, without those that the server
    makes for its readers only.

    ``server_id`` is the reader's own, as that of a replica: a second reader with the same one ends the first. With ``follow``, it
    waits for new events until ``stop`` is called, by another thread or by a signal handler.
    """

    def __init__(
        self,
        server: Server,
        connection: Connection[Any],
        source: Source,
        *,
        server_id: int,
        follow: bool = True,
        heartbeat: float = HEARTBEAT_SECONDS,
    ) -> None:
        self._server, self._connection, self._source = server, connection, source
        self._server_id, self._follow, self._heartbeat = server_id, follow, heartbeat
        self._sock: socket.socket = connection._sock  # type: ignore[attr-defined]
        self._stopped = threading.Event()
        self._file = ""
        self._at = 0
        self._knows_offset = False
        self._has_checksums = True
        self.format: FormatDescription | None = None
        """The format description of the current file."""
        self.format_event = b""
        """The same as an event. It is not the file's own when reading began within the file."""

    def stop(self) -> None:
        """End the iteration at once, also while it waits for the server."""
        self._stopped.set()
        with suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # not that of SSLSocket, which another thread is using

    def read(self) -> Iterator[Piece | Idle]:
        """The events in pieces. Idle is yielded at every heartbeat of the server.

        Raises WalGone (the server deleted the log), LineageChanged (it has another log), ServerFailed (the connection broke),
        ConfigurationError (a right is missing), LogCorrupt.
        """
        self._begin()
        packets = Packets(self._sock, 3 * self._heartbeat + 10)
        try:
            while True:
                status = packets.begin()
                if status == _EOF:
                    return
                if status != _OK:
                    raise self._explain(packets.rest())
                yield from self._read_event(packets)
        except Disconnected as error:
            if not self._stopped.is_set():
                raise ServerFailed(f"the binary log of {where(self._server)} cannot be read: {error}") from None
        finally:
            self._connection._force_close()  # type: ignore[attr-defined]  # the server notices, and ends its thread

    def _begin(self) -> None:
        with explain_refusals(self._server):
            self._source.prepare(self._connection, self._heartbeat)
            name = b"strongroom"
            me = struct.pack("<IB", self._server_id, len(name)) + name + bytes(2) + struct.pack("<HII", 0, 0, 0)
            self._register(me)
            command = self._source.command(self._server_id, 0 if self._follow else _NO_BLOCK)
            self._run(command.code, command.payload)

    def _register(self, me: bytes) -> None:
        """So that the server lists the reader among its replicas, and says now if the account may not read."""
        self._run(_REGISTER, me)
        try:
            self._connection._read_packet()  # type: ignore[no-untyped-call]
        except pymysql.OperationalError as error:
            code, text = parts(error)
            if code not in _NO_RIGHT:
                raise
            raise ConfigurationError(
                f"the account of {where(self._server)} may not read the binary log: {text}",
                remedy="GRANT REPLICATION SLAVE ON *.* to it.",
            ) from None

    def _run(self, code: int, payload: bytes) -> None:
        self._connection._execute_command(code, payload)  # type: ignore[attr-defined]

    def _read_event(self, packets: Packets) -> Iterator[Piece | Idle]:
        head = packets.take(SIZE)
        header = parse_header(head)
        if header.is_artificial or (header.kind == ROTATE and not header.time):
            if header.length > PIECE:
                raise LogCorrupt(f"the server sent an artificial event of {header.length} bytes")
            data = head + packets.take(header.length - SIZE)
            packets.finish()
            yield from self._note_artificial(header, data)
            return
        skips = self._check_offset(header)
        start = Position(self._file, self._at)
        crc = Checksum(header) if self._has_checksums or header.kind == FORMAT else None
        checksum = CHECKSUM if crc else 0
        left = header.length
        for size in split(header.length):
            is_first = left == header.length
            data = head + packets.take(size - SIZE) if is_first else packets.take(size)
            left -= size
            if crc:
                crc.feed(data)
            if not left:
                packets.finish()
                if crc and not crc.is_right:
                    raise LogCorrupt(f"the event at {start} of {where(self._server)} has a wrong checksum")
                self._at += header.length
                if header.kind == FORMAT:
                    self._note_format(data)
            yield Piece(header, start, data, is_first, not left, checksum, skips and is_first)

    def _check_offset(self, header: Header) -> bool:
        """Whether the server left out events before this one, which is only right for what the reader has."""
        if not self._file:
            raise LogCorrupt(f"{where(self._server)} sent an event before the name of its file")
        begin = header.end - header.length
        if begin & 0xFFFFFFFF == self._at & 0xFFFFFFFF:
            self._knows_offset = self._knows_offset or header.kind in self._source.starts
            return False
        if begin > self._at and self._source.after_gtids and (header.kind in self._source.starts or not self._knows_offset):
            self._at, self._knows_offset = begin, True
            return True
        raise LogCorrupt(
            f"the log of {where(self._server)} does not continue at {self._file}:{self._at}: an event begins at {begin}",
            remedy=NEW_SERIES,
        )

    def _note_artificial(self, header: Header, data: bytes) -> Iterator[Idle]:
        if header.kind == FORMAT:
            self._note_format(data)
            return
        body = data[SIZE:]
        if len(body) >= CHECKSUM and zlib.crc32(data[:-CHECKSUM]) == int.from_bytes(data[-CHECKSUM:], "little"):
            body = body[:-CHECKSUM]
        if header.kind == ROTATE:
            rotate = parse_rotate(body)
            if rotate.file != self._file:
                self._file, self._at = rotate.file, rotate.offset
        elif header.kind in (HEARTBEAT, HEARTBEAT_V2):
            yield Idle(Position(self._file, self._at))

    def _note_format(self, data: bytes) -> None:
        self.format = parse_format(data)
        self.format_event = data
        self._has_checksums = self.format.has_checksums

    def _explain(self, data: bytes) -> StrongroomError:
        """The error that the server sent: code, ``#`` and state, text."""
        code = int.from_bytes(data[:2], "little")
        text = data[2:].decode(errors="replace")
        text = text[6:] if text.startswith("#") else text
        return explain_error(self._server, code, text)


_GONE = ("purged", "Could not find first log", "ould not find next log", "too old")
_OTHER = (
    "not in the master's binlog",
    "impossible position",
    "position > file size",
    "more GTIDs than",
    "has diverged",
)
_DAMAGED = ("bogus data", "max_allowed_packet", "truncated in the middle", "crc check")
"""Also what a server finds where no event begins."""


def explain_error(server: Server, code: int, text: str) -> StrongroomError:
    """What an error of the server at the start of a dump, or in the middle, means for the archive."""
    if code == _FATAL and any(part in text for part in _GONE):
        return WalGone(f"{where(server)} deleted binary logs that the archive lacks: {text}", remedy=NEW_SERIES)
    if code == _FATAL and any(part in text for part in _OTHER):
        return LineageChanged(f"{where(server)} does not have the log that was read before: {text}", remedy=NEW_SERIES)
    if code == _FATAL and any(part in text for part in _DAMAGED):
        return LogCorrupt(f"{where(server)} found no valid event in its binary log: {text}", remedy=NEW_SERIES)
    return ServerFailed(f"{where(server)} ended the reading of its binary log: {text} ({code})", remedy="See its error log.")
