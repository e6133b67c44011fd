"""Manifests, from the store."""

from __future__ import annotations

import hashlib

from strongroom.artifact.records.location import Location
from strongroom.artifact.records.manifest import MAX_BYTES, Manifest
from strongroom.errors import ArtifactMissing, StorageNotFound
from strongroom.storage import Store


def read_manifest(store: Store, location: Location) -> tuple[Manifest, str]:
    """The manifest at ``location`` and the SHA-256 of its stored bytes. Raises ArtifactMissing, ManifestInvalid, StorageError."""
    try:
        data = store.get(location.manifest, length=MAX_BYTES + 1)
    except StorageNotFound as error:
        raise ArtifactMissing(
            f"no backup found at {store.url(location.prefix)}: the manifest is missing",
            remedy="It was deleted or never finished, or is in another store or container.",
        ) from error
    return Manifest.parse(data, location), hashlib.sha256(data).hexdigest()


def load_manifest(store: Store, location: Location) -> Manifest:
    """The manifest at ``location``. Raises ArtifactMissing, ManifestInvalid, StorageError."""
    return read_manifest(store, location)[0]
