"""Addresses of the pool: every server that we make has one of its own, at the standard port."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Collection

from strongroom.errors import ConfigurationError


def allocate(pool: str, port: int, taken: Collection[str]) -> str:
    """The first address of ``pool`` that no server of ours has and on which nothing listens at ``port``.

    Raises ConfigurationError when there is none, or when the pool is not of this host.
    """
    network = ipaddress.IPv4Network(pool)
    for address in network.hosts():
        text = str(address)
        if text not in taken and is_free(text, port):
            return text
    raise ConfigurationError(
        f"no address of the pool {pool} is free at port {port}", remedy="Give [agent] pool a larger network."
    )


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
