"""Proof that a server's history contains a backup: a random token that is written into the server after the backup has ended.

Positions, ids and timelines are part of every snapshot of the data directory, so they prove nothing. The token is written into
the data, where the order of the log puts it after everything in the backup, and into a file of the data directory. It is also in
the manifest and in the catalog. Tokens belong to a lineage: a restored copy has another one, and starts without tokens.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from strongroom.artifact import Witness
from strongroom.errors import ConfigurationError, LineageChanged
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

WITNESS_FILE = "strongroom_witness"
KEPT_TOKENS = 100
"""Number of tokens that a server keeps: after a rollback to a state between two backups, the older one can still be a parent."""
TAKE_FULL = "Take a full backup; later incrementals are based on it."
_CLOCK_STEP = 10
"""Seconds of clock drift, beyond which a process counts as restored together with the memory of its machine."""


def new_token() -> str:
    """Create a token of 128 random bits."""
    return secrets.token_hex(16)


def keep_token(data_dir: Path, lineage: str, token: str) -> None:
    """Add a token to the file; tokens of another lineage and unreadable lines are dropped. Raises ConfigurationError."""
    known = [line for line in _read_lines(data_dir) if line.startswith(f"{lineage} ")]
    lines = [*known, f"{lineage} {token}"][-KEPT_TOKENS:]
    write_file(data_dir / WITNESS_FILE, "\n".join(lines) + "\n", find_owner(data_dir))


def has_token(data_dir: Path, lineage: str, token: str) -> bool:
    """Whether the file holds the token."""
    return f"{lineage} {token}" in _read_lines(data_dir)


def _read_lines(data_dir: Path) -> list[str]:
    try:
        return (read_text(data_dir / WITNESS_FILE) or "").splitlines()
    except (ConfigurationError, OSError):
        return []


def explain_no_proof(server: str, why: str, remedy: str = "") -> LineageChanged:
    """The error if nothing proves that the history of ``server`` contains the parent."""
    return LineageChanged(
        f"nothing proves that the data of {server} still contains the parent backup: {why}",
        remedy=f"{TAKE_FULL} {remedy}".strip(),
    )


def require_written(server: str, witness: Witness | None) -> Witness:
    """The witness of the parent. Raises LineageChanged if it has none."""
    if witness is None:
        raise explain_no_proof(server, WITNESS_NEVER_WRITTEN)
    return witness


def require_same_process(server: str, witness: Witness, pid: int | None, describe_grant: Callable[[], str]) -> None:
    """Raises LineageChanged unless the server is still the process that was running when the parent ended.

    ``describe_grant`` returns the statement that grants the right to write a token, which is stronger evidence.
    """
    if not is_same_process(witness.evidence, pid):
        raise explain_no_proof(server, "the account may not write a token into it, and it was restarted since", describe_grant())


WITNESS_NEVER_WRITTEN = "no token was written into the server after the parent backup ended"
WITNESS_LOST = (
    "the token that was written after the parent backup ended is missing in {}; "
    "the data was reset to an older state, or it is a copy"
)


# --- the process of the server, if the account may not write


def describe_process(pid: int | None) -> dict[str, str]:
    """Identify a running process; empty if it cannot be identified."""
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
    """Whether the server is the process that ``evidence`` describes, and its machine was not reset to a snapshot."""
    now = describe_process(pid)
    if not now or any(evidence.get(name) != now[name] for name in ("boot", "pid", "started")):
        return False
    try:
        return abs(int(evidence["clock"]) - int(now["clock"])) <= _CLOCK_STEP
    except (KeyError, ValueError):
        return False
