"""Finds the OS user at the other end of a loopback connection, from the kernel's tables."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

ESTABLISHED = "01"


def peer_uid(server: tuple[str, int], client: tuple[str, int]) -> int | None:
    """The owner of the socket that is connected from ``client`` to ``server``; None if it is not on this machine.

    Only established connections are considered, because the kernel shows root as the owner of a closed socket.
    """
    try:
        wanted = {(_hexadecimal(*client, mapped), _hexadecimal(*server, mapped)) for mapped in (False, True)}
    except ValueError:
        return None
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if (fields[1], fields[2]) in wanted and fields[3] == ESTABLISHED and fields[9] != "0":
                return int(fields[7])
    return None


def _hexadecimal(host: str, port: int, mapped: bool) -> str:
    """``host:port`` in the format of /proc/net/tcp: 32-bit words in host byte order. ``mapped``: as IPv4-mapped IPv6."""
    address = ipaddress.ip_address(host)
    packed = address.packed
    if mapped and address.version == 4:
        packed = bytes(10) + b"\xff\xff" + packed
    words = (packed[i : i + 4] for i in range(0, len(packed), 4))
    return "".join((w[::-1] if sys.byteorder == "little" else w).hex().upper() for w in words) + f":{port:04X}"
