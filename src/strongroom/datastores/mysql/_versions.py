"""Which MySQL is installed here, and what its versions can."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from strongroom.datastores import _installed
from strongroom.datastores._servers import Version
from strongroom.datastores.mariadb._versions import key, number_of, series

PROGRAMS = {"server": "mysqld", "client": "mysql", "binlog": "mysqlbinlog"}
CLONES = (8, 0, 17)
"""The first version with the clone plugin."""
XTRABACKUP = "xtrabackup"
"""Name of the program, and its role. It is optional, and lies elsewhere than the server."""
_SAID = re.compile(r"\bVer(?:sion)? (\d+\.\d+\.\d+)|\bversion (\d+\.\d+\.\d+)")

__all__ = ["CLONES", "PROGRAMS", "XTRABACKUP", "discover", "key", "number_of", "series", "version_of"]


def discover(places: Sequence[Path]) -> list[Version]:
    """Complete installations, newest first. Of two with one number, the one in ``places`` counts.

    Programs of MariaDB go by the same names; they are left out.
    """
    found: dict[str, Version] = {}
    roots = list(_installed.roots(places, "mysql"))
    for root in roots:
        programs = {role: path for role, name in PROGRAMS.items() if (path := _installed.program(root, name))}
        if len(programs) < len(PROGRAMS):
            continue
        number = version_of(programs["server"])
        if number is not None and version_of(programs["binlog"]) is not None:
            programs |= _xtrabackup(roots, number)
            found.setdefault(number, Version(datastore="mysql", series=series(number), number=number, programs=programs))
    return sorted(found.values(), key=lambda version: key(version.number), reverse=True)


def _xtrabackup(roots: Sequence[Path], server: str) -> dict[str, Path]:
    """The XtraBackup that is of the series of the server and not older, where there is one."""
    for root in roots:
        program = _installed.program(root, XTRABACKUP)
        if program and (number := version_of(program)) and series(number) == series(server) and key(number) >= key(server):
            return {XTRABACKUP: program}
    return {}


def version_of(program: Path) -> str | None:
    """Full version that a program tells of itself, none when it cannot be run."""
    said = _installed.said(program, "--no-defaults", "--version") or ""
    match = _SAID.search(said)
    return (match[1] or match[2]) if match and "MariaDB" not in said else None
