"""Keys of objects: ``container/name/parts``, checked because they are also built from foreign manifests."""

from __future__ import annotations

from strongroom.errors import StorageError

MAX_PART = 200
"""Bytes of one part: file systems allow 255, and a temporary name is a little longer than the key's last part."""


def split(key: str) -> list[str]:
    """The parts of ``key``. Raises StorageError when one is empty, hidden (begins with a dot), too long or unprintable."""
    parts = key.split("/")
    for part in parts:
        if not part or part.startswith(".") or not part.isprintable() or len(part.encode()) > MAX_PART:
            raise StorageError(f"object key {key!r} is not valid", remedy="Names of containers and backups need plain letters.")
    return parts


def split_prefix(prefix: str) -> list[str]:
    """The parts of a folder; none for the top of the store."""
    return split(prefix) if prefix else []
