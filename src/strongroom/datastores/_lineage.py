"""The random id of a data directory. A restore gives it another one, so that no incremental stands on data that went."""

from __future__ import annotations

import re
import uuid
from pathlib import Path

from strongroom.datastores._files import owner_of, read_file, write_file

LINEAGE = "strongroom_lineage"


def lineage(data_dir: Path, *, renew: bool = False) -> str:
    """The id, made when it is missing; ``renew`` makes another."""
    path = data_dir / LINEAGE
    known = "" if renew else (read_file(path) or "").strip()
    if re.fullmatch(r"[0-9a-f]{32}", known):
        return known
    made = uuid.uuid4().hex
    write_file(path, made + "\n", owner_of(data_dir))
    return made
