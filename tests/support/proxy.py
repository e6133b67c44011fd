"""A wire to a server that can be slow, stand still, or break: a TCP proxy on loopback."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from typing import Literal

Direction = Literal["up", "down"]
_PIECE = 64 * 1024
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER that makes close() say RST."""


class Proxy:
    """Connections to it end at ``target``, a port of 127.0.0.1. Change ``rate`` (bytes a second, each way) at any time."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.rate: float | None = None
        self.connections = 0
        self.carried = {"up": 0, "down": 0}
        self._cuts: list[tuple[Direction, int]] = []
        self._live: set[socket.socket] = set()
        self._moving = threading.Event()
        self._moving.set()
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, times: int, *, after: int, direction: Direction = "up") -> None:
        """Reset each of the next ``times`` connections once more than ``after`` bytes would go in the direction."""
        with self._lock:
            self._cuts += [(direction, after)] * times

    def reset(self) -> None:
        """Break every connection there is."""
        with self._lock:
            live = list(self._live)
        for end in live:
            _break(end)

    def stall(self) -> None:
        """Take everything and carry nothing, until ``go_on``."""
        self._moving.clear()

    def go_on(self) -> None:
        self._moving.set()

    def close(self) -> None:
        self._listener.close()
        self._moving.set()
        self.reset()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.connections += 1
                cut = self._cuts.pop(0) if self._cuts else None
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                _break(client)
                continue
            with self._lock:
                self._live |= {client, server}
            for direction, source, sink in (("up", client, server), ("down", server, client)):
                most = cut[1] if cut and cut[0] == direction else None
                threading.Thread(target=self._carry, args=(direction, source, sink, most), daemon=True).start()

    def _carry(self, direction: Direction, source: socket.socket, sink: socket.socket, most: int | None) -> None:
        done = 0
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                self._moving.wait()
                if most is not None and done + len(data) > most:
                    sink.sendall(data[: most - done])
                    _break(source)
                    _break(sink)
                    return
                sink.sendall(data)
                done += len(data)
                with self._lock:
                    self.carried[direction] += len(data)
                if self.rate:
                    time.sleep(len(data) / self.rate)
            sink.shutdown(socket.SHUT_WR)
        with self._lock:
            self._live -= {source}


def _break(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        end.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        end.close()


@contextlib.contextmanager
def proxy(target: int) -> Iterator[Proxy]:
    """A proxy for as long as the block lasts."""
    wire = Proxy(target)
    try:
        yield wire
    finally:
        wire.close()
