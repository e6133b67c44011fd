"""The PostgreSQL versions that are installed on this host, and which versions fit each other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit import installed
from strongroom.errors import VersionMismatch

PROGRAMS = {"server": "postgres", "backup": "pg_basebackup", "initialize": "initdb"}
OLDEST = 13
"""The first series whose base backups contain a manifest."""


def discover(places: Sequence[Path]) -> list[Version]:
    """Complete installations of all series, newest first. Of two with the same version, the one in ``places`` is used."""
    found: dict[str, Version] = {}
    for folder in _list_directories(places):
        programs = {role: folder / name for role, name in PROGRAMS.items()}
        numbers = {read_version(path) for path in programs.values()}
        number = numbers.pop()
        if numbers or number is None or make_sort_key(number)[0] < OLDEST:
            continue  # programs are missing or have different versions
        found.setdefault(number, Version(datastore="postgresql", series=extract_series(number), number=number, programs=programs))
    return sorted(found.values(), key=lambda version: make_sort_key(version.number), reverse=True)


def _list_directories(places: Sequence[Path]) -> Iterator[Path]:
    for place in places:
        yield place
        yield place / "bin"
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))  # Debian
    yield from sorted(Path("/usr").glob("pgsql-*/bin"))  # the project's own RPMs
    yield Path("/usr/local/pgsql/bin")
    yield from installed.search_path()


def read_version(program: Path) -> str | None:
    """The full version that a program reports; none if it cannot be run."""
    match = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+|beta\d+|rc\d+|devel))", installed.ask_program(program, "--version") or "")
    return match[1] if match else None


def extract_number(text: str) -> str:
    """The version in a running server's text, without the packager's additions."""
    found = re.match(r"\d+(?:\.\d+|beta\d+|rc\d+|devel)", text)
    return found[0] if found else text


def extract_series(number: str) -> str:
    """The series of a version: ``15`` of ``15.18``, ``19`` of ``19rc1``."""
    found = re.match(r"\d+", number)
    return found[0] if found else number


def make_sort_key(number: str) -> tuple[int, ...]:
    """A key that sorts versions by number. Betas and release candidates come before the first release of their series."""
    found = re.fullmatch(r"(\d+)(devel|beta|rc)?\.?(\d*)", number)
    if found is None:
        return tuple(int(part) for part in re.findall(r"\d+", number))
    stage = {"devel": -3, "beta": -2, "rc": -1, None: 0}[found[2]]
    return (int(found[1]), stage, int(found[3] or 0))


def require_series(version: Version, number: str, what: str) -> None:
    """Raises VersionMismatch unless the installation has the series of ``number``: it cannot use files of another one."""
    if extract_series(number) != version.series:
        raise VersionMismatch(
            f"{what} is PostgreSQL {number}, but {version.programs['server']} is {version.number}",
            remedy=f"Install PostgreSQL {extract_series(number)}; a dump and reload leads to another version.",
        )
