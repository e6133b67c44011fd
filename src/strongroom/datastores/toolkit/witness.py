"""Proof that a server's history contains a backup: a random token that is written into the server after the backup has ended.

Positions, ids and timelines come back with a snapshot of the data directory, so they prove nothing. The token is written into the
data, where the order of the log puts it behind everything that the backup holds, and into a file of the data directory. It is
also in the manifest and in the catalog. Tokens belong to a lineage: the copy that a restore makes has another one, and starts
without tokens.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from pathlib import Path

from strongroom.errors import ConfigurationError, LineageChanged
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

FILE = "strongroom_witness"
KEPT = 100
"""Tokens that a server keeps: after a rollback to a state between two backups, the older one can still be a parent."""
FULL = "Take a full backup; incrementals can go on from that."
_CLOCK_STEP = 10
"""Seconds that clocks may drift apart before a process counts as one that was put back with the memory of its machine."""


def new_token() -> str:
    """128 random bits."""
    return secrets.token_hex(16)


def keep_token(data_dir: Path, lineage: str, token: str) -> None:
    """Add a token to the file; those of another lineage are dropped, and what cannot be read. Raises ConfigurationError."""
    known = [line for line in _read_lines(data_dir) if line.startswith(f"{lineage} ")]
    lines = [*known, f"{lineage} {token}"][-KEPT:]
    write_file(data_dir / FILE, "\n".join(lines) + "\n", find_owner(data_dir))


def has_token(data_dir: Path, lineage: str, token: str) -> bool:
    """Whether the file holds the token."""
    return f"{lineage} {token}" in _read_lines(data_dir)


def _read_lines(data_dir: Path) -> list[str]:
    try:
        return (read_text(data_dir / FILE) or "").splitlines()
    except (ConfigurationError, OSError):
        return []


def no_proof(server: str, why: str, remedy: str = "") -> LineageChanged:
    """The error when nothing proves that the history of ``server`` contains the parent."""
    return LineageChanged(
        f"nothing proves that the data of {server} still contains the parent backup: {why}", remedy=f"{FULL} {remedy}".strip()
    )


NEVER_WRITTEN = "no token was written into the server after the parent backup ended"
LOST = (
    "the token that was written after the parent backup ended is missing in {}; "
    "the data was put back to an older state, or it is a copy"
)


# --- the process of the server, where nothing may be written


def describe_process(pid: int | None) -> dict[str, str]:
    """What identifies a running process; empty when that is not known."""
    if pid is None or pid <= 0:
        return {}
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    started = stat.rpartition(")")[2].split()[19]
    clock = int(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
    return {"boot": boot, "pid": str(pid), "started": started, "clock": str(clock)}


def is_same_process(evidence: Mapping[str, str], pid: int | None) -> bool:
    """Whether the server is the very process that ``evidence`` describes, and its machine was not put back to a snapshot."""
    now = describe_process(pid)
    if not now or any(evidence.get(name) != now[name] for name in ("boot", "pid", "started")):
        return False
    try:
        return abs(int(evidence["clock"]) - int(now["clock"])) <= _CLOCK_STEP
    except (KeyError, ValueError):
        return False
