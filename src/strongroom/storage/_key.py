"""Keys of objects: ``container/name/parts``. They are checked, because some come from manifests that others wrote."""

from __future__ import annotations

from strongroom.errors import StorageError

MAX_PART = 200
"""Bytes of one part. File systems allow 255, and a temporary name is a little longer than the last part of the key."""


def split(key: str) -> list[str]:
    """The parts of ``key``. Raises StorageError if one is empty, hidden (begins with a dot), too long or not printable."""
    parts = key.split("/")
    for part in parts:
        if not part or part.startswith(".") or not part.isprintable() or len(part.encode()) > MAX_PART:
            raise StorageError(
                f"object key {key!r} is not valid", remedy="Use plain letters and digits for the container and the name."
            )
    return parts


def split_prefix(prefix: str) -> list[str]:
    """The parts of a folder; none for the top of the store."""
    return split(prefix) if prefix else []
