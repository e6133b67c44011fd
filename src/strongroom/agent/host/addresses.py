"""Addresses of the pool: every server that we make has one of its own, at the standard port."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Collection

from strongroom.errors import ConfigurationError

LONGEST_WAY = 3.0
"""Seconds that a packet to a peer may take."""


class Addresses:
    """The addresses that this agent gives out. Each is held by a UDP socket, so that of two agents only one takes it."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._held: dict[tuple[str, int], socket.socket] = {}

    def allocate(self, port: int, taken: Collection[str]) -> str:
        """The first address of the pool that no server has, on which nothing listens at ``port``, and that nobody else holds.

        Raises ConfigurationError when there is none, or when the pool is not of this host.
        """
        for address in ipaddress.IPv4Network(self._pool).hosts():
            text = str(address)
            if text not in taken and is_free(text, port) and self.hold(text, port):
                return text
        raise ConfigurationError(
            f"no address of the pool {self._pool} is free at port {port}", remedy="Give [agent] pool a larger network."
        )

    def hold(self, address: str, port: int) -> bool:
        """Keep the address for us: between the choice and the server's own listening another agent must not take it."""
        if (address, port) in self._held:
            return True
        holder = socket.socket(type=socket.SOCK_DGRAM)
        try:
            holder.bind((address, port))
        except OSError:
            holder.close()
            return False
        self._held[address, port] = holder
        return True

    def close(self) -> None:
        """Let go of all."""
        for holder in self._held.values():
            holder.close()
        self._held.clear()


def is_free(address: str, port: int) -> bool:
    """A server could listen there. Raises ConfigurationError when the address is not one of this host."""
    with socket.socket() as probe:
        # As servers do, so that connections of the past are not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise ConfigurationError(
                f"cannot listen on {address}:{port}: {error.strerror}",
                remedy="Give [agent] pool a network whose addresses this host has (the default needs no set-up on Linux).",
            ) from error
    return True


def no_way(source: str, address: str, port: int) -> str | None:
    """Why nothing gets from one of our addresses to the other; none when it does, also where nobody listens just now."""
    try:
        socket.create_connection((address, port), timeout=LONGEST_WAY, source_address=(source, 0)).close()
    except ConnectionRefusedError:
        return None  # its host has answered
    except TimeoutError:
        return f"no answer within {LONGEST_WAY:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    return None
