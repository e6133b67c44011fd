"""Artifacts in a store as a whole: listed, deleted, and swept when their writer died."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pydantic import ValidationError

from strongroom.artifact._intent import Intent
from strongroom.artifact._joined import joined_keys
from strongroom.artifact._load import load_manifest
from strongroom.artifact._location import Location
from strongroom.artifact._manifest import Manifest
from strongroom.errors import ArtifactError, ManifestInvalid, StorageError, StorageNotFound
from strongroom.storage import Store


@dataclass(frozen=True, slots=True)
class Problem:
    """A folder that holds no good artifact, and why: ArtifactMissing (no manifest: unfinished), ManifestInvalid, StorageError."""

    container: str
    id: str
    error: ArtifactError | StorageError


def delete_artifact(store: Store, location: Location, *, segments: int = 0) -> None:
    """Remove the artifact. The manifest goes first, so that what is left of a broken-off deletion is never taken for a backup;
    the intent record goes last, so that it can be swept. What is not there is no error.

    ``segments`` that were begun, and those of the manifest, are removed whether the store lists them or not: Swift's listings
    may be late, and a put that was given up may still come to its end.
    """
    with contextlib.suppress(ArtifactError):
        segments = max(segments, len(load_manifest(store, location).segments))
    store.delete([location.manifest])
    store.delete(joined_keys(store, location))
    known = dict.fromkeys([location.index, *(location.segment(number) for number in range(segments))])
    parts = dict.fromkeys(stat.key for stat in store.list(location.prefix) if stat.key != location.intent) | known
    store.delete(parts)
    store.delete([location.intent])


def list_artifacts(store: Store, container: str | None = None) -> Iterator[Manifest | Problem]:
    """Every artifact of the store or of one container, to build a catalog from: its manifest, or what is wrong with it."""
    for folder in [container] if container else list(store.folders()):
        for name in list(store.folders(folder)):
            try:
                yield load_manifest(store, _location(folder, name))
            except (ArtifactError, StorageError) as error:
                yield Problem(folder, name, error)


def sweep_orphans(
    store: Store, owner: str, is_running: Callable[[str], bool], older_than: timedelta, *, container: str | None = None
) -> list[Location]:
    """Remove what dead writers of service ``owner`` left: no manifest, an intent record of ``owner``, not ``is_running(id)``, and
    nothing written for ``older_than`` by the clock of the store. What was removed is returned.
    """
    swept = []
    for folder in [container] if container else list(store.folders()):
        for name in list(store.folders(folder)):
            try:
                location = _location(folder, name)
            except ManifestInvalid:
                continue
            if not is_running(location.id) and _is_orphan(store, location, owner, older_than):
                delete_artifact(store, location)
                swept.append(location)
    return swept


def _is_orphan(store: Store, location: Location, owner: str, older_than: timedelta) -> bool:
    try:
        store.head(location.manifest)
    except StorageNotFound:
        pass
    else:
        return False
    stats = list(store.list(location.prefix))
    if not stats:  # a killed writer may have left hidden files; deleting a key that never exists makes the store tidy the folder
        store.delete([f"{location.prefix}/nothing"])
        return False
    intent = Intent.load(store, location)
    newest = max(stat.modified for stat in stats)
    return intent is not None and intent.owner == owner and datetime.now(UTC) - newest >= older_than


def _location(container: str, name: str) -> Location:
    try:
        return Location(container=container, id=name)
    except ValidationError as error:
        raise ManifestInvalid(f"{container}/{name} cannot be the name of an artifact") from error
