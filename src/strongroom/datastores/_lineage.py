"""The random id of a data directory. A restore gives it another one, so that no incremental stands on data that went."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from strongroom.datastores._files import owner_of, read_file, write_file

LINEAGE = "strongroom_lineage"


def lineage(data_dir: Path, *, renew: bool = False) -> str:
    """The id, made when it is missing; ``renew`` makes another."""
    known = None if renew else read(data_dir)
    return known or put(data_dir, uuid.uuid4().hex)


def read(data_dir: Path) -> str | None:
    """The id, when there is a good one."""
    known = (read_file(data_dir / LINEAGE) or "").strip()
    return known if re.fullmatch(r"[0-9a-f]{32}", known) else None


def put(data_dir: Path, known: str) -> str:
    """Make it the id."""
    write_file(data_dir / LINEAGE, known + "\n", owner_of(data_dir))
    return known
