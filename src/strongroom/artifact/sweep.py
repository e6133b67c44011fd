"""Artifacts in a store as a whole: listed, deleted, and swept when their writer died."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

from pydantic import ValidationError

from strongroom.artifact.joined import joined_keys
from strongroom.artifact.records.intent import Intent
from strongroom.artifact.records.load import load_manifest
from strongroom.artifact.records.location import LOGS, Location, Part
from strongroom.artifact.records.manifest import MAX_SEGMENTS, Manifest
from strongroom.errors import ArtifactError, ManifestInvalid, StorageError, StorageNameInvalid, StorageNotFound
from strongroom.sections import CONTAINER_PATTERN
from strongroom.storage import DirectoryStore, Stat, Store

_BATCH = 1000
_MOST_PARTS = MAX_SEGMENTS + 100_000
"""Objects of one artifact that one deletion takes; the next takes the rest."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A folder that holds no good artifact, and why: ArtifactMissing (no manifest: unfinished), ManifestInvalid, StorageError."""

    container: str
    id: str
    error: ArtifactError | StorageError


def delete_artifact(store: Store, location: Location, *, segments: int = 0, attempt: int = 0) -> None:
    """Remove the artifact. The manifest is removed first, so that an interrupted deletion never leaves a backup; the intent
    records are removed last, so that the rest can be swept. Missing objects are not an error.

    Only keys that ``location`` makes are removed, whatever the store lists and the manifest says. ``segments`` that ``attempt``
    began, and those of the manifest, are removed whether the store lists them or not: Swift's listings may be late, and a put
    that was given up may still come to its end.
    """
    keys = [location.index_of(attempt), *(location.segment(number, attempt) for number in range(segments))]
    with contextlib.suppress(ArtifactError):
        manifest = load_manifest(store, location)
        keys += [manifest.index_key, *(manifest.segment_key(number) for number in range(len(manifest.segments)))]
    store.delete([location.manifest])
    store.delete(joined_keys(store, location))
    parts = list_parts(store, location)
    known = dict.fromkeys([*keys, *(part.key for part in parts if not part.is_intent)])
    for batch in _in_batches([key for key in known if key != location.manifest]):
        store.delete(batch)
    intents = [*(part.key for part in parts if part.is_intent), location.intent, location.intent_of(attempt)]
    store.delete(dict.fromkeys(intents))
    with contextlib.suppress(StorageNotFound):  # of a late writer, which looked at its segments before they went
        store.head(location.manifest)
        store.delete([location.manifest])


def list_parts(store: Store, location: Location) -> list[Part]:
    """The objects that the store lists and that belong to the artifact. Others in its folder are none of our business.

    Where one of those keeps the store from listing the folder, only the results of verifications and the labels are found.
    """
    try:
        return _parse_parts(location, store.list(location.prefix))
    except StorageNameInvalid:
        found = []
        for folder in (location.verifications, location.labels):
            with contextlib.suppress(StorageNameInvalid):
                found += _parse_parts(location, store.list(folder))
        return found


def _parse_parts(location: Location, listed: Iterable[Stat]) -> list[Part]:
    found = (location.parse_part(stat.key) for stat in listed)
    return list(islice((part for part in found if part is not None), _MOST_PARTS))


def _in_batches(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for at in range(0, len(keys), _BATCH):
        yield keys[at : at + _BATCH]


def list_artifacts(store: Store, container: str | None = None, without: Collection[str] = ()) -> Iterator[Manifest | Problem]:
    """Every artifact of the store or of one container, to build a catalog from: its manifest, or what is wrong with it.

    ``without``: ids that are left out.
    """
    for folder in [container] if container else _containers(store):
        for name in list(store.folders(folder)):
            if name == LOGS or name in without:
                continue
            try:
                yield load_manifest(store, _location(folder, name))
            except (ArtifactError, StorageError) as error:
                yield Problem(folder, name, error)


def sweep_orphans(
    store: Store,
    owner: str,
    is_running: Callable[[str], bool],
    older_than: timedelta,
    *,
    container: str | None = None,
    report: Callable[[Location, StorageError], None] | None = None,
) -> list[Location]:
    """Remove what dead writers of service ``owner`` left: no manifest, an intent record of ``owner``, not ``is_running(id)``, and
    nothing written for ``older_than`` by the clock of the store. What was removed is returned.

    Artifacts that cannot be removed are skipped and passed to ``report`` with the error; without it, the error is raised.
    """
    swept = []
    for folder in [container] if container else _containers(store):
        for name in list(store.folders(folder)):
            try:
                location = _location(folder, name)
            except ManifestInvalid:
                continue
            try:
                if not is_running(location.id) and _is_orphan(store, location, owner, older_than):
                    delete_artifact(store, location)
                    swept.append(location)
            except StorageError as error:
                if report is None:
                    raise
                report(location, error)
    return swept


def _containers(store: Store) -> list[str]:
    """Folders that can be containers of Strongroom; the store may contain others."""
    return [name for name in store.folders() if re.fullmatch(CONTAINER_PATTERN, name)]


def _is_orphan(store: Store, location: Location, owner: str, older_than: timedelta) -> bool:
    try:
        store.head(location.manifest)
    except StorageNotFound:
        pass
    else:
        return False
    stats = [stat for stat in store.list(location.prefix) if location.parse_part(stat.key) is not None]
    if not stats:  # a killed writer may have left hidden files; deleting a key that never exists makes the store tidy the folder
        if isinstance(store, DirectoryStore):
            store.delete([f"{location.prefix}/nothing"])
        return False
    newest = max(stat.modified for stat in stats)
    attempts = {0} | {part.attempt for stat in stats if (part := location.parse_part(stat.key)) is not None and part.is_intent}
    intents = [Intent.load(store, location, attempt) for attempt in sorted(attempts)]
    owners = {intent.owner for intent in intents if intent is not None}
    return owners == {owner} and datetime.now(UTC) - newest >= older_than


def _location(container: str, name: str) -> Location:
    try:
        return Location(container=container, id=name)
    except ValidationError as error:
        raise ManifestInvalid(f"{container}/{name} cannot be the name of an artifact") from error
