"""Installed versions of MySQL, and their features."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from strongroom.datastores.innodb.versions import NUMBER, extract_series, make_sort_key
from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit import installed

PROGRAMS = {"server": "mysqld", "client": "mysql", "binlog": "mysqlbinlog"}
CLONES = (8, 0, 17)
"""The first version with the clone plugin."""
XTRABACKUP = "xtrabackup"
"""Name of the program, and its role. It is optional, and in another directory than the server."""
_SAID = re.compile(rf"\bVer(?:sion)? ({NUMBER})|\bversion ({NUMBER})")
_LONG_TERM = {"5.7", "8.0", "8.4", "9.7"}


def is_innovation(name: str) -> bool:
    """Whether this series is not an LTS: it ends with the next one, and only its own servers start on its data."""
    return name not in _LONG_TERM


def discover(places: Sequence[Path]) -> list[Version]:
    """Complete installations, newest first. Of two with the same version, the one in ``places`` is used.

    Programs of MariaDB with the same names are left out.
    """
    found: dict[str, Version] = {}
    roots = list(installed.list_roots(places, "mysql"))
    for root in roots:
        programs = {role: path for role, name in PROGRAMS.items() if (path := installed.find_program(root, name))}
        if len(programs) < len(PROGRAMS):
            continue
        number = read_version(programs["server"])
        if number is not None and read_version(programs["binlog"]) is not None:
            programs |= _xtrabackup(roots, number)
            found.setdefault(number, Version(datastore="mysql", series=extract_series(number), number=number, programs=programs))
    return sorted(found.values(), key=lambda version: make_sort_key(version.number), reverse=True)


def _xtrabackup(roots: Sequence[Path], server: str) -> dict[str, Path]:
    """The installed XtraBackup of the server's series that is not older than the server; none if there is none."""
    for root in roots:
        program = installed.find_program(root, XTRABACKUP)
        if (
            program
            and (number := read_version(program))
            and extract_series(number) == extract_series(server)
            and make_sort_key(number) >= make_sort_key(server)
        ):
            return {XTRABACKUP: program}
    return {}


def read_version(program: Path) -> str | None:
    """Full version that a program reports; none if it cannot be run."""
    said = installed.ask_program(program, "--no-defaults", "--version") or ""
    match = _SAID.search(said)
    return (match[1] or match[2]) if match and "MariaDB" not in said else None


def find_base_dir(version: Version) -> Path:
    """The root of the installation, which may differ from the path that it was built for."""
    return version.programs["server"].parent.parent
