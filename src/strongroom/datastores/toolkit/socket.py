"""Where a server's socket is: its path has to be short."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

MAX_BYTES = 100
"""The kernel takes 107 bytes."""


def socket_path(base_dir: Path, name: str = "mysqld.sock") -> Path:
    """``<base_dir>/run/<name>``, or, when that is too long, a place in a private directory of a short name."""
    path = base_dir / "run" / name
    if len(os.fsencode(path)) <= MAX_BYTES:
        return path
    short = hashlib.sha256(os.fsencode(base_dir)).hexdigest()[:16]
    return Path("/run" if os.geteuid() == 0 else "/tmp") / f"strongroom-{short}" / name  # noqa: S108 - made 0700, owner checked
