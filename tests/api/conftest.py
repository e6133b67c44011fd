"""Fixtures for the tests of the API."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.site import Site


@pytest.fixture
def site(place: Path, empty_catalog: Path) -> Iterator[Site]:
    """The API on a catalog of its own."""
    shutil.copy(empty_catalog, place)
    site = Site(place)
    yield site
    site.control.catalog.close()
