"""From the settings to a store. What a driver needs is loaded with the first store of its kind, or by ``load``."""

from __future__ import annotations

from pathlib import Path

from strongroom.errors import ConfigurationError
from strongroom.sections import Storage
from strongroom.storage._directory import DirectoryStore
from strongroom.storage._protocol import Store


def load(driver: str) -> None:
    """Import what stores of this driver need, for a process that cannot read its own modules later."""
    if driver == "swift":
        import strongroom.storage._swift
    elif driver != "directory":
        import strongroom.storage._bucket  # noqa: F401


def open_store(storage: Storage, default_path: Path | None = None, gid: int | None = None) -> Store:
    """The store that ``storage`` describes. A remote one is not contacted yet; the directory is made when it is missing.

    ``default_path`` is the directory when the settings name none; ``gid`` is the group that shares it, when workers run as
    several OS users. Raises ConfigurationError that names the missing option, StorageDenied when the directory cannot be made.
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
