"""Verifies an artifact: every segment, every hash, every frame, and the structure of the stream.

A quick look compares the sizes of all objects only, and proves nothing about what is in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Protocol

from strongroom.artifact.reader import REMEDY, Reader
from strongroom.artifact.records.manifest import Manifest
from strongroom.artifact.streams.walk import Ranges, Tap, Walk
from strongroom.artifact.streams.walks import walk_of
from strongroom.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, StorageNotFound
from strongroom.storage import Stat, Store

MOST_PROBLEMS = 100
_LOOKS = 16
"""Parallel calls, which mostly wait for the store."""
_BATCH = 1000
"""Maximum length of the queue, to limit memory: there may be 500,000 objects."""


class Check(Tap, Protocol):
    """Checks the files of a stream while it is read."""

    def problems(self) -> Sequence[ArtifactError]:
        """The problems found, after the whole stream was read."""


@dataclass(frozen=True, slots=True)
class Report:
    """The result. ``files`` is the number of files in the stream, if known. ``problems`` contains the first hundred."""

    segments: int
    raw_size: int
    stored_size: int
    files: int | None
    problems: tuple[ArtifactError, ...]
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there are no problems."""
        return not self.problems


def compare_sizes(store: Store, manifest: Manifest) -> Report:
    """Look up every object of the artifact. Missing objects and wrong sizes are reported, not raised.

    Where objects may expire, those that do are named in a warning. Raises StorageError.
    """
    wanted = {manifest.segment_key(number): segment.stored for number, segment in enumerate(manifest.segments)}
    if manifest.index is not None:
        wanted[manifest.index_key] = manifest.index.stored
    problems: list[ArtifactError] = []
    expiring = [] if (stat := store.head(manifest.location.manifest)).expires is None else [stat]

    def look(key: str) -> Stat | ArtifactError:
        try:
            return store.head(key)
        except StorageNotFound:
            return ArtifactMissing(f"{store.url(key)} is missing", remedy=REMEDY)

    with ThreadPoolExecutor(_LOOKS, thread_name_prefix="look") as pool:
        keys = iter(wanted)
        while batch := list(islice(keys, _BATCH)):
            for key, found in zip(batch, pool.map(look, batch), strict=True):
                if isinstance(found, ArtifactError):
                    problems.append(found)
                    continue
                if found.size != wanted[key]:
                    what = f"{store.url(key)} has {found.size} bytes, not {wanted[key]}"
                    problems.append(ArtifactCorrupt(what, remedy=REMEDY))
                if found.expires is not None:
                    expiring.append(found)
    return Report(
        segments=len(manifest.segments),
        raw_size=0,
        stored_size=sum(wanted.values()),
        files=None,
        problems=tuple(problems[:MOST_PROBLEMS]),
        warnings=tuple(_describe_expiry(store, manifest, expiring)),
    )


def _describe_expiry(store: Store, manifest: Manifest, expiring: Sequence[Stat]) -> list[str]:
    dated = [(stat.expires, stat.key) for stat in expiring if stat.expires is not None]
    if not dated:
        return []
    when, key = min(dated)
    return [
        f"the store will delete {len(dated)} object(s) of backup {manifest.name or manifest.id} automatically, the first, "
        f"{store.url(key)}, at {when:%Y-%m-%d %H:%M:%S} UTC (X-Delete-At); the backup cannot be restored after that"
    ]


def verify(reader: Reader, on_progress: Callable[[int, int], None] | None = None, check: Check | None = None) -> Report:
    """Read everything; missing and damaged parts are reported, not raised. ``on_progress`` gets raw and stored bytes so far.

    ``check`` knows more of the files in the stream, and is asked at the end when nothing is missing.

    Raises StorageError when the store does not answer, CannotDecrypt, or what ``reader.stop`` was given.
    """
    manifest = reader.manifest
    walk = walk_of(manifest.stream)
    if walk:
        walk.tap = check
    problems: list[ArtifactError] = []
    raw = stored = 0
    for number, found in reader.segments(range(len(manifest.segments))):
        raw += manifest.segments[number].raw
        stored += manifest.segments[number].stored
        if isinstance(found, ArtifactError):
            problems.append(found)
            walk = None  # it cannot continue after a gap
        elif walk:
            walk = _attempt(walk, partial(walk.feed, found), problems)
            if check and (rest := check.take()):
                rest()
        if on_progress:
            on_progress(raw, stored)
    if walk:
        walk = _attempt(walk, walk.finish, problems)
    if walk and check:
        problems += check.problems()
    _check_index(reader, walk, problems)
    files = walk.files if walk else None
    return Report(len(manifest.segments), raw, stored, files, tuple(problems[:MOST_PROBLEMS]))


def _attempt(walk: Walk, step: Callable[[], None], problems: list[ArtifactError]) -> Walk | None:
    try:
        step()
    except ArtifactCorrupt as error:
        problems.append(error)
        return None
    return walk


def _check_index(reader: Reader, walk: Walk | None, problems: list[ArtifactError]) -> None:
    if reader.manifest.index is None:
        return
    try:
        index = reader.index()
    except ArtifactError as error:
        problems.append(error)
        return
    if walk and not _same(walk, index):
        problems.append(ArtifactCorrupt(f"the index of backup {reader.manifest.location.prefix} does not match its stream"))


def _same(walk: Walk, index: dict[str, Ranges]) -> bool:
    return walk.files == len(index) and all(index.get(path) == ranges for path, ranges in walk.ranges())
