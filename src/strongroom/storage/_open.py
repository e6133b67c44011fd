"""Opens the store that the settings describe. A driver's library is imported with its first store, or by ``load``."""

from __future__ import annotations

from pathlib import Path

from strongroom.errors import ConfigurationError
from strongroom.sections import Storage
from strongroom.storage._directory import DirectoryStore
from strongroom.storage._protocol import Store


def load(driver: str) -> None:
    """Import the modules of this driver now, for a process that will not be able to read them later."""
    if driver == "swift":
        import strongroom.storage._swift
    elif driver != "directory":
        import strongroom.storage._bucket  # noqa: F401


def open_store(storage: Storage, default_path: Path | None = None, gid: int | None = None) -> Store:
    """The store that ``storage`` describes. A remote one is not contacted yet; a missing directory is created.

    ``default_path`` is the directory if the settings name none. ``gid`` is the group that shares it, for workers that run as
    several OS users. Raises ConfigurationError, which names the missing option, or StorageDenied if the directory cannot be
    created.
    """
    if storage.driver == "directory":
        path = storage.path or default_path
        if path is None:
            raise ConfigurationError("storage.path is not set", remedy="Name the directory of the store.")
        return DirectoryStore(path, gid=gid)
    if storage.driver == "swift":
        from strongroom.storage._swift import SwiftStore

        return SwiftStore(storage)
    from strongroom.storage._bucket import open_bucket

    return open_bucket(storage)
