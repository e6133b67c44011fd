"""Records of log archives are read once, and what the store lists decides which of them count."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from strongroom.archive import delete_series
from strongroom.flows.recovery.memory import LogMemory
from strongroom.storage import Store
from support.archives import LOG, append, begin, open_directory


class CountingStore:
    """A store that counts the records of segments that are read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.records = 0

    def get(self, key: str, **range_: Any) -> bytes:
        self.records += "/index/" in key
        return self._store.get(key, **range_)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture
def store(place: Path) -> CountingStore:
    return CountingStore(open_directory(place / "store"))


def load(memory: LogMemory, store: CountingStore) -> tuple[int, int]:
    """How many segments there are, and how many of their records were read for that."""
    before = store.records
    found, damaged = memory.load(store, LOG)  # type: ignore[arg-type]
    assert not damaged
    return sum(len(contents.segments) for contents in found), store.records - before


def test_only_new_records_are_read(store: CountingStore) -> None:
    memory = LogMemory()
    head = append(store, begin(store), [b"x"] * 3)  # type: ignore[arg-type]
    assert load(memory, store) == (3, 3)
    append(store, head, [b"x"] * 2)  # type: ignore[arg-type]
    assert load(memory, store) == (5, 2)
    assert load(memory, store) == (5, 0)
    append(store, begin(store, 5, seam=(0, 5)), [b"x"])  # type: ignore[arg-type]
    assert load(memory, store) == (6, 1)


def test_a_series_that_replaces_another_one_is_read(store: CountingStore) -> None:
    memory = LogMemory()
    append(store, begin(store), [b"x"] * 3)  # type: ignore[arg-type]
    load(memory, store)
    delete_series(store, LOG.series(0))  # type: ignore[arg-type]
    append(store, begin(store), [b"y"] * 2)  # type: ignore[arg-type]
    assert load(memory, store) == (2, 2)


def test_what_exceeds_the_limit_is_forgotten_but_found(store: CountingStore) -> None:
    memory = LogMemory(limit=3 * 4096)
    append(store, begin(store), [b"x"] * 3)  # type: ignore[arg-type]
    append(store, begin(store, 3, seam=(0, 3)), [b"x"])  # type: ignore[arg-type]
    assert load(memory, store) == (4, 4)
    assert load(memory, store) == (4, 3), "the series that was used last stays"
