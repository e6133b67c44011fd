"""Which PostgreSQL is installed here, and which versions fit each other."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from strongroom.datastores._process import SAFE_PATH, environment
from strongroom.datastores._protocol import Version
from strongroom.errors import VersionMismatch

PROGRAMS = {"server": "postgres", "backup": "pg_basebackup", "initialize": "initdb"}
OLDEST = 13
"""The first series whose base backups carry a manifest."""


def discover(places: Sequence[Path]) -> list[Version]:
    """Complete installations, newest first; several series side by side. Of two with one number, the one in ``places`` counts."""
    found: dict[str, Version] = {}
    for folder in _folders(places):
        programs = {role: folder / name for role, name in PROGRAMS.items()}
        numbers = {version_of(path) for path in programs.values()}
        number = numbers.pop()
        if numbers or number is None or key(number)[0] < OLDEST:
            continue  # programs are missing, or of different versions
        found.setdefault(number, Version(datastore="postgresql", series=series(number), number=number, programs=programs))
    return sorted(found.values(), key=lambda version: key(version.number), reverse=True)


def _folders(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        yield place
        yield place / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian
    yield from sorted(Path("/usr").glob("pgsql-*/bin"))  # the project's own RPMs
    yield Path("/usr/local/pgsql/bin")
    for folder in os.environ.get("PATH", SAFE_PATH).split(":"):
        if folder.startswith("/"):
            yield Path(folder)


def version_of(program: Path) -> str | None:
    """Full version that a program tells of itself, none when it cannot be run. Remembered until the file changes."""
    try:
        return _version_of(program, program.stat().st_mtime_ns)
    except OSError:
        return None


@lru_cache(maxsize=64)
def _version_of(program: Path, mtime_ns: int) -> str | None:
    try:
        run = subprocess.run(
            [program, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, env=environment(), check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) (\d+\.\d+)", run.stdout.decode(errors="replace"))
    return match[1] if match and run.returncode == 0 else None


def series(number: str) -> str:
    """``15`` of ``15.18``."""
    return number.partition(".")[0]


def key(number: str) -> tuple[int, ...]:
    """For comparing: numbers, not text."""
    return tuple(int(part) for part in re.findall(r"\d+", number))


def require_series(version: Version, number: str, what: str) -> None:
    """Raises VersionMismatch unless the installation is of the series of ``number``: files of another one are of no use."""
    if series(number) != version.series:
        raise VersionMismatch(
            f"{what} is PostgreSQL {number}, but {version.programs['server']} is {version.number}",
            remedy=f"Install PostgreSQL {series(number)}; a dump and reload leads to another version.",
        )
