"""Results of verifications: immutable objects, stored with the artifact.

The newest result counts, with two exceptions: a result that found damage is only lifted by one that looked at least as closely,
and one that found none is not replaced by one that looked less closely. ``docs/artifact.md`` describes the objects.
"""

from __future__ import annotations

from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from strongroom.artifact.records.location import Location
from strongroom.artifact.records.numbered import MAX_BYTES, list_numbers, numbered_key, put_next
from strongroom.artifact.records.part import Part
from strongroom.errors import StorageError, StorageNotFound
from strongroom.storage import Store

Level = Literal["sizes", "content", "prepared", "tables"]
LEVELS: tuple[Level, ...] = ("sizes", "content", "prepared", "tables")
"""What a verification checks: sizes of all objects; every byte; a restore of the chain to a scratch directory; every table, read
by a private server there."""
PROVES_DAMAGE = frozenset(
    {"ArtifactError", "ArtifactMissing", "ArtifactCorrupt", "FileTwice", "ManifestInvalid", "ToolFailed", "ServerFailed"}
)
"""Codes of errors of a verification that say that the backup is bad. All others (the store or the host does not answer, no space,
no key, a program that was ended, a cancelled job) say nothing about it: what was known of it stays."""


_MOST_KEPT = 2 * len(LEVELS)
"""As many can be needed, one for each level and outcome. If there are more, those that are not needed are deleted."""


class Verification(Part):
    """The result of one verification of one backup."""

    format: Literal[1] = 1
    id: str
    container: str
    manifest_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the manifest that was verified.")
    job: str = Field(description="Id of the job that verified it.")
    owner: str = Field("", description="Id of the service.")
    at: AwareDatetime
    ok: bool
    level: Level
    links: int = Field(1, ge=1, description="Backups of the chain, up to this one, that were read.")
    raw_size: int = Field(0, ge=0, description="Bytes of the stream that were read of these; 0 when only sizes were compared.")
    stored_size: int = Field(0, ge=0, description="Bytes in the store that were looked at.")
    files: int | None = Field(None, ge=0)
    tables: int | None = Field(None, ge=0, description="Tables that a private server read.")
    code: str | None = None
    message: str | None = Field(None, max_length=4000)

    @property
    def location(self) -> Location:
        """The verified artifact."""
        return Location(container=self.container, id=self.id)


def supersedes(ok: bool, level: Level, standing_ok: bool, standing_level: Level) -> bool:
    """Whether a new result replaces an older one."""
    return LEVELS.index(level) >= LEVELS.index(standing_level) or (standing_ok and not ok)


def keep_verification(store: Store, found: Verification) -> None:
    """Store the result with its artifact, as a new object. A result of the same job is stored once. Raises StorageError."""
    data = found.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"
    folder = found.location.verifications
    numbers = list_numbers(store, folder)
    if numbers and (newest := _read(store, found.location, numbers[-1])) is not None and newest.job == found.job:
        return
    put_next(store, folder, data, numbers[-1] if numbers else None)
    if len(numbers) >= _MOST_KEPT:  # to look through them costs a call for each
        _prune(store, found)


def _prune(store: Store, kept: Verification) -> None:
    """Delete the results that newer ones of the same outcome and level replace. A store that forbids deletion keeps all."""
    try:
        results = _results(store, kept.location, kept.manifest_sha256)
        needed = {(found.ok, found.level): number for number, found in results}
        newest = [(number, found) for number, found in results if number in needed.values()]
        if _standing(newest) == _standing(results):
            folder = kept.location.verifications
            store.delete([numbered_key(folder, number) for number, _ in results if number not in needed.values()])
    except StorageError as error:
        import structlog  # here, because it takes 17 MB, and archivers of logs must be small

        structlog.get_logger().info("old results of verifications stay", backup=kept.id, reason=error.message)


def load_verification(store: Store, location: Location, manifest_sha256: str) -> Verification | None:
    """The decisive result for the artifact with this manifest, or None if it was never verified. Raises StorageError.

    Objects that are no result, or are of another artifact, do not count.
    """
    return _standing(_results(store, location, manifest_sha256))


def _results(store: Store, location: Location, manifest_sha256: str) -> list[tuple[int, Verification]]:
    read = ((number, _read(store, location, number)) for number in list_numbers(store, location.verifications))
    return [(number, found) for number, found in read if found is not None and found.manifest_sha256 == manifest_sha256]


def _standing(results: list[tuple[int, Verification]]) -> Verification | None:
    standing: Verification | None = None
    for _, found in results:
        if standing is None or supersedes(found.ok, found.level, standing.ok, standing.level):
            standing = found
    return standing


def _read(store: Store, location: Location, number: int) -> Verification | None:
    try:
        found = Verification.model_validate_json(store.get(numbered_key(location.verifications, number), length=MAX_BYTES))
    except (StorageNotFound, ValidationError):
        return None
    return found if (found.container, found.id) == (location.container, location.id) else None
