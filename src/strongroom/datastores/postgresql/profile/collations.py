"""Collations: rules of the C library or of ICU for sorting text. If a new version changes them, indexes become wrong."""

from __future__ import annotations

import ctypes
import locale
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

from strongroom.artifact import Collation
from strongroom.datastores.postgresql.server.connection import Connection, query
from strongroom.system.children import run_program

_PROVIDERS: dict[str, Literal["libc", "icu", "builtin"]] = {"c": "libc", "i": "icu", "b": "builtin"}
_VERSIONED = 150000
"""The first version that records the version of a database's collation."""


def read_collations(connection: Connection) -> list[Collation]:
    """Read the collations of all databases, with the versions in use now."""
    ((number,),) = query(connection, "SELECT current_setting('server_version_num')::int")
    version = "pg_database_collation_actual_version(oid)" if number >= _VERSIONED else "NULL"
    statement = f"SELECT to_jsonb(d) - 'datacl' - 'datname', {version} FROM pg_database d WHERE datallowconn"  # noqa: S608 - constants
    with connection.cursor() as cursor:
        cursor.execute(statement.encode())
        rows = cursor.fetchall()
    found = set()
    for database, actual in rows:
        provider = _PROVIDERS[database.get("datlocprovider", "c")]
        name = database["datcollate"] if provider == "libc" else database.get("datlocale") or database.get("daticulocale") or ""
        found.add((provider, name, actual))
        if provider != "libc":
            found.add(("libc", database["datctype"], None))  # must exist even so
    return [Collation(provider=p, locale=n, version=v) for p, n, v in sorted(found, key=lambda each: (each[0], each[1]))]


def find_differences(program: Path, collations: Sequence[Collation]) -> list[str]:
    """Differences between the collations of a server ``program`` on this host and those at the source."""
    return list(_differences(program, collations))


def _differences(program: Path, collations: Sequence[Collation]) -> Iterator[str]:
    for collation in dict.fromkeys(collations):
        if collation.provider == "builtin":
            continue
        what = f"locale {collation.locale} of {'the C library' if collation.provider == 'libc' else 'ICU'}"
        if collation.provider == "libc" and not _has_locale(collation.locale):
            yield f"{what} is not on this host: databases that use it cannot be opened; install it, then start the server again"
            continue
        here = _libc_version() if collation.provider == "libc" else _icu_version(program, collation.locale)
        if collation.version and here and here != collation.version:
            yield (
                f"{what} has version {here} here, and had {collation.version} where the backup was taken: text may be sorted in "
                "another order, and indexes on it be wrong; REINDEX the databases, and ALTER DATABASE … REFRESH COLLATION VERSION"
            )


def _has_locale(name: str) -> bool:
    before = locale.setlocale(locale.LC_COLLATE)
    try:
        locale.setlocale(locale.LC_COLLATE, name)
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_COLLATE, before)
    return True


def _libc_version() -> str | None:
    with suppress(ValueError, OSError):
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ") or None
    return None


def _icu_version(program: Path, name: str) -> str | None:
    """The version as the server reads it, from the library that it is linked with; none if it cannot be determined."""
    found = _icu(program)
    if found is None:
        return None
    library, number = found
    status = ctypes.c_int(0)
    opened = getattr(library, f"ucol_open_{number}")
    opened.restype = ctypes.c_void_p
    collator = opened(name.encode(), ctypes.byref(status))
    if status.value > 0 or not collator:
        return None
    parts = (ctypes.c_uint8 * 4)()
    getattr(library, f"ucol_getVersion_{number}")(ctypes.c_void_p(collator), parts)
    getattr(library, f"ucol_close_{number}")(ctypes.c_void_p(collator))
    shown = list(parts)
    while len(shown) > 2 and shown[-1] == 0:
        shown.pop()
    return ".".join(map(str, shown))


@cache
def _icu(program: Path) -> tuple[ctypes.CDLL, str] | None:
    run = run_program(["ldd", program])
    found = re.search(r"=> (/\S*/libicui18n\S*\.so\.(\d+))", run.stdout) if run is not None and run.returncode == 0 else None
    try:
        return (ctypes.CDLL(found[1]), found[2]) if found else None
    except OSError:
        return None
