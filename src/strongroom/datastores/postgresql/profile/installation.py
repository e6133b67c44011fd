"""Properties of an installation, besides its version, that data depends on: the catalog version and time zones."""

from __future__ import annotations

import mmap
import re
from functools import lru_cache
from pathlib import Path

from strongroom.datastores.postgresql.server.versions import extract_series, read_version
from strongroom.datastores.toolkit import installed

_FOLDER = re.compile(rb"\0PG_(\d+)_(\d{9})\0")
"""The name of a server's directory in a tablespace contains its catalog version."""
_ZONES = Path("/usr/share/zoneinfo/tzdata.zi")


def read_catalog_version(program: Path) -> int | None:
    """The only catalog version that a server program reads; none if it cannot be determined.

    All releases of a series have the same. Each beta and release candidate may have its own.
    """
    try:
        return _read_catalog_version(program, program.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=16)
def _read_catalog_version(program: Path, mtime_ns: int) -> int | None:
    """Cached until the file changes: packages may be upgraded while the agent runs."""
    try:
        with program.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found = {(int(major), int(number)) for major, number in _FOLDER.findall(content)}
    except (OSError, ValueError):
        return None
    mine = extract_series(read_version(program) or "")
    numbers = {number for major, number in found if str(major) == mine}
    return numbers.pop() if len(numbers) == 1 else None


def read_zones_version(program: Path) -> str | None:
    """The release of the host's time zones; none if the server has its own, which depend on its version only."""
    said = installed.ask_program(program.with_name("pg_config"), "--sharedir")
    folders = [Path(said.strip())] if said else [program.parent.parent / "share" / name for name in ("postgresql", "")]
    if any((folder / "timezone").is_dir() for folder in folders):
        return None
    try:
        with _ZONES.open(encoding="ascii", errors="replace") as file:
            found = re.match(r"# version (\w{1,20})$", file.readline(100).strip())
    except OSError:
        return None
    return found[1] if found else None
