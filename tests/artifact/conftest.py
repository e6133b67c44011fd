"""A directory store and a place in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.artifact import Location
from strongroom.sections import Storage
from strongroom.storage import Store, open_store
from support.swift import swift

__all__ = ["swift"]


@pytest.fixture
def top(place: Path) -> Path:
    return place / "store"


@pytest.fixture
def store(top: Path) -> Store:
    return open_store(Storage(), top)


@pytest.fixture
def here() -> Location:
    return Location(container="box", id="one")
