"""Which MySQL is installed here, and what its versions can."""

from __future__ import annotations

import glob
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from strongroom.datastores._process import SAFE_PATH, environment
from strongroom.datastores._protocol import Version
from strongroom.datastores.mariadb._versions import key, number_of, series

PROGRAMS = {"server": "mysqld", "client": "mysql", "binlog": "mysqlbinlog"}
CLONES = (8, 0, 17)
"""The first version with the clone plugin."""
XTRABACKUP = "xtrabackup"
"""Name of the program, and its role. It is optional, and lies elsewhere than the server."""
_USUAL = ["/usr", "/usr/local", "/usr/local/mysql"]
_FOLDERS = ["", "sbin", "bin", "libexec"]
_SAID = re.compile(r"\bVer(?:sion)? (\d+\.\d+\.\d+)|\bversion (\d+\.\d+\.\d+)")

__all__ = ["CLONES", "PROGRAMS", "XTRABACKUP", "discover", "key", "number_of", "series", "version_of"]


def discover(places: Sequence[Path]) -> list[Version]:
    """Complete installations, newest first. Of two with one number, the one in ``places`` counts.

    Programs of MariaDB go by the same names; they are left out.
    """
    found: dict[str, Version] = {}
    roots = list(_roots(places))
    for root in roots:
        programs = {role: path for role, name in PROGRAMS.items() if (path := _program(root, name))}
        if len(programs) < len(PROGRAMS):
            continue
        number = version_of(programs["server"])
        if number is not None and version_of(programs["binlog"]) is not None:
            programs |= _xtrabackup(roots, number)
            found.setdefault(number, Version(datastore="mysql", series=series(number), number=number, programs=programs))
    return sorted(found.values(), key=lambda version: key(version.number), reverse=True)


def _roots(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        yield place
        yield place.parent
    yield from (Path(root) for root in _USUAL)
    yield from (Path(root) for root in sorted(glob.glob("/opt/mysql*")))  # noqa: PTH207 - the pattern is absolute
    for folder in os.environ.get("PATH", SAFE_PATH).split(":"):
        if folder.startswith("/"):
            yield Path(folder).parent


def _program(root: Path, name: str) -> Path | None:
    for folder in _FOLDERS:
        path = root / folder / name
        if os.access(path, os.X_OK) and path.is_file():
            return path
    return None


def _xtrabackup(roots: Sequence[Path], server: str) -> dict[str, Path]:
    """The XtraBackup that is of the series of the server and not older, where there is one."""
    for root in roots:
        program = _program(root, XTRABACKUP)
        if program and (number := version_of(program)) and series(number) == series(server) and key(number) >= key(server):
            return {XTRABACKUP: program}
    return {}


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
            [program, "--no-defaults", "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
            env=environment(),
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = (run.stdout + run.stderr).decode(errors="replace")
    match = _SAID.search(said)
    return (match[1] or match[2]) if match and run.returncode == 0 and "MariaDB" not in said else None
