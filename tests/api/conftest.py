"""Fixtures for the tests of the API."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from strongroom.catalog import open_catalog
from strongroom.settings import load
from support.site import Site


@pytest.fixture(scope="session")
def empty_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with all its tables: migrating is what takes longest."""
    place = tmp_path_factory.mktemp("catalog")
    open_catalog(load(service={"data_dir": place})).close()
    return place / "catalog.sqlite"


@pytest.fixture
def site(place: Path, empty_catalog: Path) -> Iterator[Site]:
    """The API on a catalog of its own."""
    shutil.copy(empty_catalog, place)
    site = Site(place)
    yield site
    site.control.catalog.close()
