"""The protocol of MySQL's clone plugin, for the recipient.

A recipient opens two ordinary connections and switches both to the protocol. On the first it requests the copy (INIT, EXECUTE)
and reads it; on the second it confirms the end of each state (ACK). Every command and every response is one packet with sequence
number 0, whose first byte is its code. What is known of the protocol comes from its description and from observing a server.
"""

from __future__ import annotations

import os
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from pymysql.connections import Connection
from pymysql.cursors import Cursor

from strongroom.datastores.toolkit.feed import write_all
from strongroom.errors import Busy, ServerFailed, StrongroomError

PROTOCOL = 0x0103
PATIENCE = 600
"""Seconds that the donor may take for a response, and for the next bytes of the copy."""
FILES, PAGES, REDO, DONE = 2, 3, 4, 5
"""States of a copy, in order: files as they are, pages that changed meanwhile, the redo log since the start."""
ENCRYPTED = 4
"""Flag of a file whose pages are encrypted."""
DELETED_OR_RENAMED = 8 | 16
"""Flags of a file that was replaced. They occur only if DDL runs during the copy, which Strongroom does not allow."""

_COM_CLONE, _INIT, _EXECUTE, _ACK, _EXIT = 0x20, 1, 4, 5, 6
_LOCATORS, _DESCRIPTOR, _DATA, _PLUGIN, _CONFIG, _COLLATION, _PLUGIN_2, _CONFIG_3, _CONFIG_4 = range(1, 10)
_COMPLETE, _ERROR = 99, 100
_TASK, _STATE, _FILE, _BLOCK = 2, 3, 4, 5
_LONGEST = 0xFFFFFF
_BUFFER = 1 << 20
_TOO_MANY, _ENCRYPTION, _LOCK_WAIT, _DENIED = 3634, 3872, 1205, 1227


@dataclass(frozen=True, slots=True)
class State:
    """A state has begun or ended."""

    number: int
    begins: bool
    estimate: int
    """Approximate number of bytes."""


@dataclass(frozen=True, slots=True)
class File:
    """A file of a state; its data follows. The redo log has an empty name."""

    state: int
    index: int
    name: str
    size: int
    flags: int


@dataclass(frozen=True, slots=True)
class Block:
    """``length`` bytes of a file at ``offset``. They come next in the connection; read them with ``Clone.take``."""

    state: int
    index: int
    offset: int
    length: int


@dataclass
class Donor:
    """Facts about the donor, as it reports them."""

    protocol: int = 0
    plugins: list[str] = field(default_factory=list)
    collations: list[str] = field(default_factory=list)
    settings: dict[str, str] = field(default_factory=dict)


class Channel:
    """A connection that was switched to the clone protocol. Raises OSError, EOFError."""

    def __init__(self, connection: Connection[Cursor]) -> None:
        self.id = int(connection.thread_id())  # type: ignore[no-untyped-call]
        self._socket: socket.socket = connection._sock  # type: ignore[attr-defined]  # PyMySQL opens and proves it
        self._plain = not isinstance(self._socket, ssl.SSLSocket)
        if self._plain:  # a blocking socket, so that the kernel can move bytes from socket to pipe
            self._socket.settimeout(None)
            for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", PATIENCE, 0))
        else:
            self._socket.settimeout(PATIENCE)
        self._buffer = memoryview(bytearray(_BUFFER))
        self._left = 0
        """Bytes of the current packet that were not read yet."""
        self._more = False
        """Whether the current packet is so long that another one continues it."""
        self.ask(_COM_CLONE)

    def send(self, code: int, payload: bytes = b"") -> None:
        """Send a command."""
        self._socket.sendall(struct.pack("<I", len(payload) + 1)[:3] + b"\0" + bytes([code]) + payload)

    def ask(self, code: int, payload: bytes = b"") -> None:
        """Send a command and read its result. Raises ServerFailed for an error."""
        self.send(code, payload)
        self.answer()

    def answer(self) -> tuple[int, bytes]:
        """The next packet: its code and its content. Raises ServerFailed if it is an error."""
        code = self.open()
        data = self.rest()
        if code in (_ERROR, 0xFF):
            raise _refusal(code, data)
        return code, data

    def open(self) -> int:
        """The code of the next packet. The rest of the packet stays in the connection."""
        self._header()
        return self._exact(1)[0]

    def rest(self) -> bytes:
        """The rest of the packet."""
        parts = []
        while self._left or self._more:
            if not self._left:
                self._header()
                continue
            parts.append(self._exact(self._left))
        return b"".join(parts)

    def pour(self, length: int, out: int) -> None:
        """Move the next ``length`` bytes of the packet into the pipe ``out``."""
        while length:
            if not self._left and not self._more:
                raise ServerFailed("the server sent less than it announced", remedy=_UNKNOWN)
            if not self._left:
                self._header()
                continue
            want = min(length, self._left)
            if self._plain:
                done = os.splice(self._socket.fileno(), out, want)
                if not done:
                    raise EOFError
            else:
                done = self._receive(self._buffer[: min(want, _BUFFER)])
                write_all(out, self._buffer[:done])
            self._left -= done
            length -= done

    def close(self) -> None:
        """End the connection immediately, also for a thread that reads it."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _header(self) -> None:
        head = bytearray(4)
        self._fill(memoryview(head))
        self._left = head[0] | head[1] << 8 | head[2] << 16
        self._more = self._left == _LONGEST

    def _exact(self, size: int) -> bytes:
        if size > self._left:
            raise ServerFailed("the server uses an unknown version of the clone protocol", remedy=_UNKNOWN)
        data = bytearray(size)
        self._fill(memoryview(data))
        self._left -= size
        return bytes(data)

    def _fill(self, view: memoryview) -> None:
        while view:
            view = view[self._receive(view) :]

    def _receive(self, view: memoryview) -> int:
        size = self._socket.recv_into(view)
        if not size:
            raise EOFError
        return size


_UNKNOWN = "Report the version of the server; use XtraBackup meanwhile."


class Clone:
    """One copy of a server, as it arrives. Raises ServerFailed, OSError, EOFError."""

    def __init__(self, main: Connection[Cursor], second: Connection[Cursor]) -> None:
        self.donor = Donor()
        self._main = Channel(main)
        self._second = Channel(second)
        self._locators = b""

    @property
    def ids(self) -> tuple[int, int]:
        """Ids of the connections in the server."""
        return self._main.id, self._second.id

    def begin(self, ddl_timeout: int) -> None:
        """Request a copy. The server blocks new DDL from now on, and waits at most that many seconds for running DDL."""
        self._main.send(_INIT, struct.pack("<II", PROTOCOL, ddl_timeout))
        while True:
            code, data = self._main.answer()
            if code == _COMPLETE:
                break
            if code == _LOCATORS:
                (self.donor.protocol,) = struct.unpack_from("<I", data)
                self._locators = data[4:]
            elif code in (_CONFIG, _CONFIG_3, _CONFIG_4):
                name, value, *_ = _strings(data)
                self.donor.settings[name] = value
            elif code in (_PLUGIN, _PLUGIN_2):
                self.donor.plugins.append(_strings(data)[0])
            elif code == _COLLATION:
                self.donor.collations.append(_strings(data)[0])

    def events(self) -> Iterator[State | File | Block]:
        """The events of the copy, in their order. The end of a state is confirmed when the next event is requested."""
        self._main.send(_EXECUTE)
        while True:
            code, data = self._main.answer()
            if code == _COMPLETE:
                return
            if code != _DESCRIPTOR:
                raise ServerFailed(f"the server sent an unexpected code {code}", remedy=_UNKNOWN)
            event = _event(data[2:])
            if event is None:
                continue
            if isinstance(event, Block) and self._main.open() != _DATA:
                raise ServerFailed("the server announced data and sent none", remedy=_UNKNOWN)
            yield event
            if isinstance(event, State) and not event.begins:
                self._confirm(data[2:])

    def take(self, length: int) -> bytes:
        """The bytes of the block that the last event announced."""
        data = self._main.rest()
        if len(data) != length:
            raise ServerFailed(f"the server sent {len(data)} bytes instead of {length}", remedy=_UNKNOWN)
        return data

    def pour(self, length: int, out: int) -> None:
        """Move the bytes of the block into a pipe."""
        self._main.pour(length, out)
        if self._main.rest():
            raise ServerFailed(f"the server sent more than {length} bytes", remedy=_UNKNOWN)

    def end(self) -> None:
        """Confirm the whole copy. The connections cannot be used after that."""
        for channel in (self._main, self._second):
            channel.ask(_EXIT)

    def close(self) -> None:
        """Abort the copy."""
        self._main.close()
        self._second.close()

    def _confirm(self, descriptor: bytes) -> None:
        confirmed = bytearray(descriptor)
        (flags,) = struct.unpack_from(">H", confirmed, 44)
        struct.pack_into(">H", confirmed, 44, flags | 2)
        size = struct.pack("<I", len(confirmed))
        self._second.ask(_ACK, struct.pack("<I", 0) + self._locators + size + bytes(confirmed))


def _event(data: bytes) -> State | File | Block | None:
    try:
        _, _, kind = struct.unpack_from(">III", data)
        if kind == _STATE:
            number, _, _, _, estimate, _, flags = struct.unpack_from(">IIIIQQH", data, 12)
            return State(number, bool(flags & 1), estimate)
        if kind == _FILE:
            state, size, _, _, _, flags, _, index, _, _, length = struct.unpack_from(">IQQIIHIIIII", data, 12)
            name = os.fsdecode(data[62 : 62 + length].rstrip(b"\0"))
            return File(state, index, name, size, flags)
        if kind == _BLOCK:
            state, _, _, _, index, length, offset, _ = struct.unpack_from(">IIIIIIQQ", data, 12)
            return Block(state, index, offset, length)
    except struct.error as error:
        raise ServerFailed(f"the server describes its data in an unknown format: {error}", remedy=_UNKNOWN) from error
    if kind == _TASK:
        return None
    raise ServerFailed(f"the server sent a description of kind {kind}", remedy=_UNKNOWN)


def _strings(data: bytes) -> list[str]:
    found, at = [], 0
    while at + 4 <= len(data):
        (size,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + size].decode(errors="replace"))
        at += 4 + size
    return [*found, "", ""]


def _refusal(code: int, data: bytes) -> StrongroomError:
    """The error for a message of the donor. Errors of the protocol have a number of 4 bytes, those of SQL 2 and a state."""
    if code == _ERROR:
        number, text = struct.unpack_from("<I", data)[0], data[4:]
    else:
        number, text = struct.unpack_from("<H", data)[0], data[8:]
    said = text.rstrip(b"\0").decode(errors="replace")
    if number == _TOO_MANY:
        return Busy(f"another clone of the server runs: {said}", remedy="Wait for its end, then back up again.")
    if number == _LOCK_WAIT:
        return ServerFailed(
            f"a statement that changes tables ran for too long: {said}",
            remedy="Back up again when it has ended: SHOW PROCESSLIST.",
        )
    remedies = {
        _DENIED: "GRANT BACKUP_ADMIN ON *.* to the account of the backup.",
        _ENCRYPTION: "A tablespace was encrypted meanwhile: back up again.",
    }
    remedy = remedies.get(number, "See its error log.")
    return ServerFailed(f"the server refuses a copy of itself: {said or number}", remedy=remedy)
