"""Which MariaDB is installed here, and which versions fit each other."""

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
from strongroom.errors import VersionMismatch

PROGRAMS = {"server": "mariadbd", "backup": "mariadb-backup", "stream": "mbstream", "initialize": "mariadb-install-db"}
_USUAL = ["/usr", "/usr/local", "/usr/local/mysql", "/usr/local/mariadb"]
_FOLDERS = ["", "sbin", "bin", "libexec", "scripts"]


def discover(places: Sequence[Path]) -> list[Version]:
    """Complete installations, newest first. Of two with one number, the one in ``places`` counts."""
    found: dict[str, Version] = {}
    for root in _roots(places):
        programs = {role: path for role, name in PROGRAMS.items() if (path := _program(root, name))}
        if len(programs) < len(PROGRAMS):
            continue
        number = version_of(programs["server"])
        if number is not None and version_of(programs["backup"]) is not None:
            if (transfer := _transfer(programs["server"], places)) is not None:
                programs["transfer"] = transfer
            found.setdefault(number, Version(datastore="mariadb", series=series(number), number=number, programs=programs))
    return sorted(found.values(), key=lambda version: key(version.number), reverse=True)


def _roots(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        yield place
        yield place.parent
    yield from (Path(root) for root in _USUAL)
    yield from (Path(root) for root in sorted(glob.glob("/opt/mariadb*")))  # noqa: PTH207 - the pattern is absolute
    for folder in os.environ.get("PATH", SAFE_PATH).split(":"):
        if folder.startswith("/"):
            yield Path(folder).parent


def _transfer(server: Path, places: Sequence[Path]) -> Path | None:
    """What the nodes of a Galera cluster send their state with; a package of its own has it in Debian."""
    folders = [*places, server.parent.parent / "bin", Path("/usr/bin")]
    return next((path for folder in folders if (path := folder / "wsrep_sst_common").is_file()), None)


def _program(root: Path, name: str) -> Path | None:
    for folder in _FOLDERS:
        path = root / folder / name
        if os.access(path, os.X_OK) and path.is_file():  # in this order: some folders are closed to us
            return path
    return None


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
    match = re.search(r"(\d+\.\d+\.\d+)-MariaDB", (run.stdout + run.stderr).decode(errors="replace"))
    return match[1] if match and run.returncode == 0 else None


def number_of(text: str) -> str:
    """``10.11.19`` of ``10.11.19-MariaDB-0+deb12u1-log``; the text itself when it has no such beginning."""
    match = re.match(r"\d+\.\d+\.\d+", text)
    return match[0] if match else text


def series(number: str) -> str:
    """``10.11`` of ``10.11.19``."""
    return ".".join(number.split(".")[:2])


def key(number: str) -> tuple[int, ...]:
    """For comparing: numbers, not text."""
    return tuple(int(part) for part in re.findall(r"\d+", number_of(number)))


def require_tool(program: Path, server_version: str, what: str) -> str:
    """Version of the backup tool; VersionMismatch unless it is of the series of ``server_version`` and not older."""
    tool = version_of(program)
    wanted = number_of(server_version)
    if tool is None or series(tool) != series(wanted) or key(tool) < key(wanted):
        raise VersionMismatch(
            f"{program} is version {tool or 'unknown'}, but {what} is MariaDB {wanted}",
            remedy=f"Install mariadb-backup {series(wanted)}, version {wanted} or a later one of that series.",
        )
    return tool
