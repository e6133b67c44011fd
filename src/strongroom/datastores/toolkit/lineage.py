"""The random id of a data directory. A restore replaces it, so that no incremental has a parent from replaced data."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

LINEAGE = "strongroom_lineage"


def ensure_lineage(data_dir: Path, *, renew: bool = False) -> str:
    """The id. It is created when it is missing; ``renew`` replaces it."""
    known = None if renew else read_lineage(data_dir)
    return known or write_lineage(data_dir, uuid.uuid4().hex)


def read_lineage(data_dir: Path) -> str | None:
    """The id, if there is a valid one."""
    known = (read_text(data_dir / LINEAGE) or "").strip()
    return known if re.fullmatch(r"[0-9a-f]{32}", known) else None


def write_lineage(data_dir: Path, known: str) -> str:
    """Write the id."""
    write_file(data_dir / LINEAGE, known + "\n", find_owner(data_dir))
    return known
