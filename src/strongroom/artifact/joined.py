"""A backup as one object with the name and metadata of Trove's, in stores that can present several objects as one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import product

from strongroom.artifact.records.load import load_manifest
from strongroom.artifact.records.location import Location
from strongroom.artifact.records.manifest import Manifest
from strongroom.errors import StorageNotFound
from strongroom.storage import JoiningStore, Stat, Store

_STREAMS = {"mbstream": "xbstream", "tar": "tar", "plain": "bin"}
_CODECS = {"zstd": "zst", "gzip": "gz"}


def artifact_url(store: Store, manifest: Manifest) -> str:
    """The URL of the backup: of the joined object if there is one, or else of the folder."""
    return store.url(_key(manifest) if isinstance(store, JoiningStore) else manifest.location.prefix)


def joined_keys(store: Store, location: Location) -> list[str]:
    """Every key that the joined object of ``location`` may have; none in a store that cannot join."""
    if not isinstance(store, JoiningStore):
        return []
    return [f"{location.prefix}.{a}.{b}{age}" for a, b, age in product(_STREAMS.values(), _CODECS.values(), ("", ".age"))]


def join(store: Store, manifest: Manifest, md5s: Sequence[str | None]) -> None:
    """Make the joined object of a backup whose segments have these MD5s; do nothing in a store that cannot join.

    Raises StorageError.
    """
    if not isinstance(store, JoiningStore):
        return
    now = datetime.now(UTC)
    parts = [
        Stat(key=manifest.segment_key(number), size=segment.stored, modified=now, etag=md5)
        for number, (segment, md5) in enumerate(zip(manifest.segments, md5s, strict=True))
    ]
    level = 0
    while len(parts) > store.max_joined_objects:
        groups = [parts[at : at + store.max_joined_objects] for at in range(0, len(parts), store.max_joined_objects)]
        parts = [store.join(manifest.location.joint(level, number), group, {}) for number, group in enumerate(groups)]
        level += 1
    store.join(_key(manifest), parts, _metadata(store, manifest))


def _key(manifest: Manifest) -> str:
    age = "" if manifest.recipients is None else ".age"
    return f"{manifest.location.prefix}.{_STREAMS[manifest.stream]}.{_CODECS[manifest.codec.name]}{age}"


def _metadata(store: Store, manifest: Manifest) -> dict[str, str]:
    """The metadata that Trove reads when it restores an object or takes an incremental."""
    told = {"datastore": manifest.datastore, "datastore-version": manifest.server_version}
    if manifest.positions.to_lsn is not None:
        told["lsn"] = str(manifest.positions.to_lsn)
    if manifest.parent is not None:
        parent = load_manifest(store, manifest.parent.location)
        told["parent-location"] = artifact_url(store, parent)
        with contextlib.suppress(StorageNotFound):  # not needed by restores here
            told["parent-checksum"] = store.head(_key(parent)).etag or ""
    return told
