"""A PostgreSQL for the tests of the catalog."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.catalog import open_catalog
from strongroom.settings import load
from support import processes
from support.own_postgresql import OwnPostgreSQL

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def new_database() -> Iterator[Callable[[], str]]:
    """Creates a database with all tables and returns its URL. It is copied from a template, because migrations are slow."""
    place = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    place.chmod(0o711)
    own = OwnPostgreSQL(place, hba="local all all trust\n", settings="fsync = off\n")
    own.sql("CREATE ROLE strongroom LOGIN CREATEDB")

    def url(name: str) -> str:
        return f"postgresql://strongroom@/{name}?host={own.run}"

    own.sql("CREATE DATABASE template OWNER strongroom")
    open_catalog(load(service={"data_dir": place, "database_url": url("template")})).close()

    def new() -> str:
        name = f"catalog{next(_numbers)}"
        own.sql(f"CREATE DATABASE {name} OWNER strongroom TEMPLATE template")
        return url(name)

    yield new
    own.end()
    processes.end(place)
    shutil.rmtree(place, ignore_errors=True)
