"""The OS user at the other end of a loopback connection, as the kernel tells it."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

ESTABLISHED = "01"


def peer_uid(server: tuple[str, int], client: tuple[str, int]) -> int | None:
    """Owner of the socket that is connected from ``client`` to ``server``; None when it is not on this machine.

    Only an established connection counts: the kernel shows a socket that was closed meanwhile as one of root.
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
    """``host:port`` as /proc/net/tcp writes it: 32-bit words in the order of the machine. ``mapped``: IPv4 within IPv6."""
    address = ipaddress.ip_address(host)
    packed = address.packed
    if mapped and address.version == 4:
        packed = bytes(10) + b"\xff\xff" + packed
    words = (packed[i : i + 4] for i in range(0, len(packed), 4))
    return "".join((w[::-1] if sys.byteorder == "little" else w).hex().upper() for w in words) + f":{port:04X}"
