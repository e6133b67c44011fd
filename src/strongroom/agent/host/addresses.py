"""Addresses of the pool: every server of the agent has its own, with the standard port."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Collection

from strongroom.errors import ConfigurationError

CONNECT_TIMEOUT = 3.0
"""Seconds for a connection to a peer."""


class Addresses:
    """The addresses that this agent assigns. A UDP socket holds each, so that two agents never take the same one."""

    def __init__(self, pool: str) -> None:
        self._pool = pool
        self._held: dict[tuple[str, int], socket.socket] = {}

    def allocate(self, port: int, taken: Collection[str]) -> str:
        """The first address of the pool that no server and no other agent has, and whose ``port`` is free.

        Raises ConfigurationError if there is none, or if the pool does not belong to this host.
        """
        for address in ipaddress.IPv4Network(self._pool).hosts():
            text = str(address)
            if text not in taken and is_free(text, port) and self.hold(text, port):
                return text
        raise ConfigurationError(
            f"no address of the pool {self._pool} is free at port {port}", remedy="Give [agent] pool a larger network."
        )

    def hold(self, address: str, port: int) -> bool:
        """Reserve the address, so that no other agent takes it before the server listens on it."""
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
        """Release all addresses."""
        for holder in self._held.values():
            holder.close()
        self._held.clear()


def is_free(address: str, port: int) -> bool:
    """Whether a server could listen there. Raises ConfigurationError if the address does not belong to this host."""
    with socket.socket() as probe:
        # As servers do, so that earlier connections do not prevent it.
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


def explain_unreachable(source: str, address: str, port: int) -> str | None:
    """Why a connection from one address to the other fails. None if the other host answers, even if nothing listens there."""
    try:
        socket.create_connection((address, port), timeout=CONNECT_TIMEOUT, source_address=(source, 0)).close()
    except ConnectionRefusedError:
        return None  # its host has answered
    except TimeoutError:
        return f"no answer within {CONNECT_TIMEOUT:.0f} s"
    except OSError as error:
        return error.strerror or str(error)
    return None
