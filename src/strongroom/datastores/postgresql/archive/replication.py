"""A connection that streams WAL: the physical replication protocol of PostgreSQL, on libpq."""

from __future__ import annotations

import contextlib
import select
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, PGconn
from psycopg.pq.abc import PGresult

from strongroom.datastores.postgresql.files import lsn
from strongroom.errors import ServerFailed

_EPOCH = 946_684_800_000_000
_DATA, _KEEPALIVE = struct.Struct("!QQq"), struct.Struct("!Qqb")
_STATUS = struct.Struct("!cQQQqB")
_UNITS = {"kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_GONE = b"58P01"
"""The SQLSTATE of "requested WAL segment … has already been removed"."""
_CONNECT_TIMEOUT = 10
_SENDER_TIMEOUT = 10
"""Seconds after which the server drops a receiver that does not answer, such as one that is stopped: it never delays a shutdown
for longer."""


class WalRemoved(ServerFailed):
    """The server no longer has the requested WAL."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The server: which data, which timeline, and up to where its WAL is on its disk."""

    system: int
    timeline: int
    position: int
    is_standby: bool


@dataclass(frozen=True, slots=True)
class WalData:
    """WAL from ``start`` on. At ``time`` the server had WAL up to ``server_end``."""

    start: int
    server_end: int
    time: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class Keepalive:
    """The server has sent everything up to ``sent``."""

    sent: int
    time: int
    wants_reply: bool


@dataclass(frozen=True, slots=True)
class TimelineEnd:
    """The timeline ends at ``position``; the server continues on ``timeline``."""

    timeline: int
    position: int


class Replication:
    """One connection. Every method raises ServerFailed."""

    def __init__(self, parameters: Mapping[str, str | int]) -> None:
        """``parameters`` are those of libpq."""
        chosen: dict[str, Any] = {
            **parameters,
            "replication": "true",
            "application_name": "strongroom",
            "connect_timeout": _CONNECT_TIMEOUT,
            "options": f"-c wal_sender_timeout={_SENDER_TIMEOUT}s",
        }
        self._connection = PGconn.connect(make_conninfo(**chosen).encode())
        self._ended: TimelineEnd | None = None
        if self._connection.status != ConnStatus.OK:
            message = self._connection.get_error_message()
            self._connection.finish()
            raise ServerFailed(f"cannot receive WAL: {message}", remedy="Check that the account has the attribute REPLICATION.")

    @property
    def socket(self) -> int:
        """For ``select``."""
        return self._connection.socket

    def close(self) -> None:
        """End the connection, in whatever state it is."""
        self._connection.finish()

    def identify(self) -> Identity:
        """The server at the other end."""
        (row,) = self._query("IDENTIFY_SYSTEM")
        is_standby = self._connection.parameter_status(b"in_hot_standby") == b"on"
        return Identity(int(_text(row[0])), int(_text(row[1])), lsn.parse_lsn(_text(row[2])), is_standby)

    def file_size(self) -> int:
        """Bytes of one WAL file."""
        ((value, *_),) = self._query("SHOW wal_segment_size")
        text = _text(value)
        return int(text[:-2]) * _UNITS[text[-2:]]

    def keep_limit(self) -> int | None:
        """How many bytes of WAL the server keeps for a slot; None: any amount."""
        ((value, *_),) = self._query("SHOW max_slot_wal_keep_size")
        text = _text(value)
        return None if text == "-1" else int(text.rstrip("kMGTB")) * _UNITS[text.lstrip("0123456789") or "MB"]

    def read_history(self, timeline: int) -> str:
        """The history file of a timeline; empty for the first, which has none."""
        if timeline == 1:
            return ""
        (row,) = self._query(f"TIMELINE_HISTORY {timeline}")
        return (row[1] or b"").decode("utf-8", "replace")

    def keep_wal(self, slot: str) -> int:
        """Create the slot, unless it exists, and return from where on the server keeps WAL. A slot that was lost is replaced."""
        position = self._read_slot(slot)
        if position is None:
            self._query(f"CREATE_REPLICATION_SLOT {slot} PHYSICAL RESERVE_WAL")
            position = self._read_slot(slot)
        if position is None:
            raise ServerFailed(f"replication slot {slot} keeps no WAL", remedy="Drop it; it is created again.")
        return position

    def drop_slot(self, slot: str) -> None:
        """Keep no WAL any more. A missing slot is no error."""
        (row,) = self._query(f"READ_REPLICATION_SLOT {slot}")
        if row[0] is not None:
            self._query(f"DROP_REPLICATION_SLOT {slot} WAIT")

    def _read_slot(self, slot: str) -> int | None:
        (row,) = self._query(f"READ_REPLICATION_SLOT {slot}")
        if row[0] is None:
            return None
        if row[1] is None:  # it was invalidated: more WAL than max_slot_wal_keep_size was written
            self._query(f"DROP_REPLICATION_SLOT {slot}")
            return None
        return lsn.parse_lsn(_text(row[1]))

    def start(self, slot: str, timeline: int, position: int) -> None:
        """Begin to stream. Raises WalRemoved."""
        self._connection.nonblocking = 0
        command = f"START_REPLICATION SLOT {slot} PHYSICAL {lsn.format_lsn(position)} TIMELINE {timeline}"
        result = self._connection.exec_(command.encode())
        if result.status == ExecStatus.TUPLES_OK:
            self._ended = _parse_end(result)
            self._drain()
        elif result.status != ExecStatus.COPY_BOTH:
            raise _describe(result)
        self._connection.nonblocking = 1

    def receive(self) -> WalData | Keepalive | TimelineEnd | None:
        """The next message; None while there is none: then wait until ``socket`` can be read. Raises WalRemoved."""
        if self._ended is not None:
            ended, self._ended = self._ended, None
            return ended
        try:
            size, data = self._connection.get_copy_data(1)
            if size == 0:
                self._connection.consume_input()
                size, data = self._connection.get_copy_data(1)
        except psycopg.Error as error:
            raise ServerFailed(f"the stream of WAL broke: {error}") from error
        if size == 0:
            return None
        if size < 0:
            return self._end()
        try:
            return _parse(memoryview(data))
        except struct.error as error:
            raise ServerFailed("the server sent a message that is too short") from error

    def confirm(self, received: int, stored: int, *, ask: bool = False) -> None:
        """Report what was received, and what is stored: the server may remove WAL before ``stored``. ``ask`` for a keepalive."""
        now = time.time_ns() // 1000 - _EPOCH
        try:
            self._connection.put_copy_data(_STATUS.pack(b"r", received, stored, 0, now, ask))
            deadline = time.monotonic() + _SENDER_TIMEOUT
            while self._connection.flush():
                if time.monotonic() > deadline:
                    raise ServerFailed("the server takes no replies")
                select.select([self.socket], [self.socket], [], 1)
                self._connection.consume_input()
        except psycopg.Error as error:
            raise ServerFailed(f"the stream of WAL broke: {error}") from error

    def _end(self) -> TimelineEnd:
        """The server ended the stream: the timeline ended, or the server stops."""
        self._connection.nonblocking = 0
        with contextlib.suppress(psycopg.Error):  # if the server does not stream any more, its error follows
            self._connection.put_copy_end()
        ended = None
        while (result := self._connection.get_result()) is not None:
            if result.status == ExecStatus.FATAL_ERROR:
                raise _describe(result)
            if result.status == ExecStatus.TUPLES_OK and result.ntuples:
                ended = _parse_end(result)
        if ended is None:
            raise ServerFailed("the server ended the stream of WAL")
        return ended

    def _drain(self) -> None:
        while self._connection.get_result() is not None:
            pass

    def _query(self, command: str) -> list[list[bytes | None]]:
        self._connection.nonblocking = 0
        result = self._connection.exec_(command.encode())
        if result.status not in (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK):
            raise _describe(result)
        return [[result.get_value(row, column) for column in range(result.nfields)] for row in range(result.ntuples)]


def _parse(message: memoryview) -> WalData | Keepalive:
    kind = bytes(message[:1])
    if kind == b"w":
        start, server_end, sent = _DATA.unpack_from(message, 1)
        return WalData(start, server_end, sent + _EPOCH, message[1 + _DATA.size :])
    if kind == b"k":
        position, sent, wants_reply = _KEEPALIVE.unpack_from(message, 1)
        return Keepalive(position, sent + _EPOCH, bool(wants_reply))
    raise ServerFailed(f"the server sent an unknown message ({kind!r})")


def _parse_end(result: PGresult) -> TimelineEnd:
    return TimelineEnd(int(_text(result.get_value(0, 0))), lsn.parse_lsn(_text(result.get_value(0, 1))))


def _text(value: bytes | None) -> str:
    if value is None:
        raise ServerFailed("the server left out a value that replication needs")
    return value.decode()


def _describe(result: PGresult) -> ServerFailed:
    cause = result.get_error_message().strip()
    kind = WalRemoved if result.error_field(DiagnosticField.SQLSTATE) == _GONE else ServerFailed
    return kind(f"the server refuses to send WAL: {cause}")
