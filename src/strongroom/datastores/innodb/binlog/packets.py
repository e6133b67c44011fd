"""Packets of the client protocol, read from the socket in bounded pieces. The server splits what has 16 MiB or more."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from strongroom.datastores.innodb.binlog.pieces import PIECE
from strongroom.errors import LogCorrupt

_HEAD = 4
_FULL = 0xFFFFFF
_RECEIVE = 1 << 18


class Disconnected(Exception):
    """The connection ended, or the server did not send anything in time."""


class Packets:
    """Reads from the socket of a connection that has received everything before."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._sock.settimeout(timeout)
        self._timeout = timeout
        self._buffer = bytearray()
        self._at = 0
        self._scratch = memoryview(bytearray(_RECEIVE))
        self._next = 1
        self._left = 0
        """Bytes of the current packet that were not read yet."""
        self._continues = False
        """Whether the current packet is full, so that another one continues it."""

    def begin(self) -> int:
        """Begin the next message. Returns its first byte, which is its status."""
        self._begin_packet()
        if not self._left:
            raise LogCorrupt("the server sent an empty packet")
        return self.take(1)[0]

    def take(self, size: int) -> bytes:
        """So many bytes of the message. Raises LogCorrupt if it has fewer."""
        parts = []
        while size:
            if not self._left:
                if not self._continues:
                    raise LogCorrupt("the server sent an event that is shorter than it says")
                self._begin_packet()
                continue
            part = self._receive(min(size, self._left))
            self._left -= len(part)
            size -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def rest(self) -> bytes:
        """What is left of the message, which is short."""
        return self.take(min(self._left, PIECE))

    def finish(self) -> None:
        """Raises LogCorrupt if the message has more bytes."""
        if not self._left and self._continues:
            self._begin_packet()
        if self._left or self._continues:
            raise LogCorrupt("the server sent an event that is longer than it says")

    def _begin_packet(self) -> None:
        head = self._receive(_HEAD)
        length = int.from_bytes(head[:3], "little")
        if head[3] != self._next:
            # a server that shuts down sends an error out of order
            raise Disconnected("the server ended the connection")
        self._next = (self._next + 1) & 0xFF
        self._left, self._continues = length, length == _FULL

    def _receive(self, size: int) -> bytes:
        while len(self._buffer) - self._at < size:
            if self._at:
                del self._buffer[: self._at]
                self._at = 0
            try:
                count = self._sock.recv_into(self._scratch)
            except TimeoutError:
                raise Disconnected(f"the server sent nothing for {self._timeout:.0f} s") from None
            except (OSError, ssl.SSLError, ValueError) as error:
                raise Disconnected(f"the connection broke: {error}") from None
            if not count:
                raise Disconnected("the server closed the connection")
            self._buffer += self._scratch[:count]
        data = bytes(self._buffer[self._at : self._at + size])
        self._at += size
        return data


def split(size: int) -> Iterator[int]:
    """The sizes of the pieces of an event."""
    while size > 0:
        yield min(size, PIECE)
        size -= PIECE
