"""A seal proves which manifest the control plane has recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.artifact import Location, check_seal, delete_artifact, put_seal
from strongroom.sections import Storage
from strongroom.storage import Store, open_store

KEY, OTHER = b"k" * 32, b"o" * 32
ONE, TWO = "1" * 64, "2" * 64
HERE = Location(container="box", id="one")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(Storage(), tmp_path / "store")


def test_seal_is_valid_for_one_manifest_location_and_key(store: Store) -> None:
    assert check_seal(store, HERE, ONE, KEY) == "unsealed"
    put_seal(store, HERE, ONE, KEY)
    assert check_seal(store, HERE, ONE, KEY) == "sealed"
    assert check_seal(store, HERE, TWO, KEY) == "forged"
    assert check_seal(store, HERE, ONE, OTHER) == "other key"
    elsewhere = Location(container="box", id="two")
    store.put(elsewhere.seal, store.get(HERE.seal))
    assert check_seal(store, elsewhere, ONE, KEY) == "forged"
    put_seal(store, HERE, TWO, KEY)  # the first stays
    assert check_seal(store, HERE, ONE, KEY) == "sealed"


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"key_id": "x", "mac": "y"}', b"\xff" * 100_000])
def test_invalid_seal_proves_nothing(store: Store, text: bytes) -> None:
    store.put(HERE.seal, text)
    assert check_seal(store, HERE, ONE, KEY) == "unsealed"


def test_seal_is_deleted_with_its_artifact(store: Store) -> None:
    put_seal(store, HERE, ONE, KEY)
    delete_artifact(store, HERE)
    assert list(store.list(HERE.prefix)) == []
