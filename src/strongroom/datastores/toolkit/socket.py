"""The path of a server's socket, which has to be short."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

MAX_BYTES = 100
"""The kernel accepts up to 107 bytes."""


def socket_path(base_dir: Path, name: str = "mysqld.sock") -> Path:
    """``<base_dir>/run/<name>``, or, if that is too long, a path in a private directory with a short name."""
    path = base_dir / "run" / name
    if len(os.fsencode(path)) <= MAX_BYTES:
        return path
    short = hashlib.sha256(os.fsencode(base_dir)).hexdigest()[:16]
    return Path("/run" if os.geteuid() == 0 else "/tmp") / f"strongroom-{short}" / name  # noqa: S108 - made 0700, owner checked
