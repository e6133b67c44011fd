"""Creates records: of two writers, exactly one succeeds."""

from __future__ import annotations

from strongroom.errors import LogTaken, StorageExists
from strongroom.storage import Store


def create(store: Store, key: str, data: bytes) -> None:
    """Store a record, unless there is one with this key. An earlier attempt of this writer may have stored it: that is no error.

    Raises LogTaken if another writer has stored it, StorageError.
    """
    try:
        store.put(key, data, create=True)
        if store.capabilities.conditional_create:
            return
    except StorageExists:
        pass
    if store.get(key, length=len(data) + 1) != data:
        raise LogTaken(
            f"another process writes the same log archive: {store.url(key)} exists already",
            remedy="Only one process may archive a server; stop the other one.",
        )
