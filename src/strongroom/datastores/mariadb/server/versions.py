"""Installed versions of MariaDB, and the versions of the backup tool that support them."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from strongroom.datastores.innodb.versions import extract_number, extract_series, make_sort_key
from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit import installed
from strongroom.errors import VersionMismatch

PROGRAMS = {"server": "mariadbd", "backup": "mariadb-backup", "stream": "mbstream", "initialize": "mariadb-install-db"}
_LIBRARIES = ("lib/galera", "lib64/galera", "lib/galera-4", "lib64/galera-4", "lib/*/galera", "lib/*/galera-4")


def discover(places: Sequence[Path]) -> list[Version]:
    """Complete installations, newest first. Of two with the same version, the one in ``places`` is used."""
    found: dict[str, Version] = {}
    for root in installed.list_roots(places, "mariadb"):
        programs = {role: path for role, name in PROGRAMS.items() if (path := installed.find_program(root, name))}
        if len(programs) < len(PROGRAMS):
            continue
        number = read_version(programs["server"])
        if number is not None and number not in found and read_version(programs["backup"]) is not None:
            programs |= _find_node_programs(programs["server"], places)
            found[number] = Version(datastore="mariadb", series=extract_series(number), number=number, programs=programs)
    return sorted(found.values(), key=lambda version: make_sort_key(version.number), reverse=True)


def _find_node_programs(server: Path, places: Sequence[Path]) -> dict[str, Path]:
    """Installed programs that only nodes of Galera clusters need: see ``clusters.PROGRAMS``."""
    root = server.parent.parent
    libraries = (top.glob(f"{place}/libgalera_smm.so") for top in (root, Path("/usr")) for place in _LIBRARIES)
    folders = [*places, root / "bin", Path("/usr/bin"), *_own_scripts()]
    scripts = (path for folder in folders if (path := folder / "wsrep_sst_common").is_file())
    found = {"galera": next(chain.from_iterable(map(sorted, libraries)), None), "transfer": next(scripts, None)}
    return {role: path for role, path in found.items() if path is not None}


def _own_scripts() -> Iterator[Path]:
    """Directory of the scripts that ``scripts/setup`` extracted from the package of the server, if servers can read it."""
    folder = (Path(sys.prefix) / "libexec/galera").resolve()
    if folder.is_dir() and all(path.stat().st_mode & 0o001 for path in (folder, *folder.parents)):
        yield folder


def read_version(program: Path) -> str | None:
    """Full version that a program reports; none if it cannot be run."""
    match = re.search(r"(\d+\.\d+\.\d+)-MariaDB", installed.ask_program(program, "--no-defaults", "--version") or "")
    return match[1] if match else None


def require_tool(program: Path, server_version: str, what: str) -> str:
    """Version of the backup tool. Raises VersionMismatch unless it is of the series of ``server_version`` and not older."""
    tool = read_version(program)
    wanted = extract_number(server_version)
    if tool is None or extract_series(tool) != extract_series(wanted) or make_sort_key(tool) < make_sort_key(wanted):
        raise VersionMismatch(
            f"{program} is version {tool or 'unknown'}, but {what} is MariaDB {wanted}",
            remedy=f"Install mariadb-backup {extract_series(wanted)}, version {wanted} or a later one of that series.",
        )
    return tool
