"""A PostgreSQL for the tests of the catalog."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import processes
from support.own_postgresql import OwnPostgreSQL

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def new_database() -> Iterator[Callable[[], str]]:
    """Creates an empty database and returns its URL."""
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    own = OwnPostgreSQL(place, hba="local all all trust\n", settings="fsync = off\n")
    own.sql("CREATE ROLE strongroom LOGIN CREATEDB")

    def url(name: str) -> str:
        return f"postgresql://strongroom@/{name}?host={own.run}"

    def new() -> str:
        name = f"catalog{next(_numbers)}"
        own.sql(f"CREATE DATABASE {name} OWNER strongroom")
        return url(name)

    yield new
    own.end()
    processes.end(place)
    shutil.rmtree(place, ignore_errors=True)
