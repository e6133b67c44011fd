"""What users changed on a backup after it was taken: its name, its protection, a hold. Immutable objects beside the artifact.

The newest counts. The catalog decides while it exists; these are for the day when it is lost. See ``docs/artifact.md``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from strongroom.artifact.records.location import Location
from strongroom.artifact.records.numbered import MAX_BYTES, list_numbers, numbered_key, put_next
from strongroom.artifact.records.part import Part
from strongroom.errors import StorageError, StorageNotFound
from strongroom.storage import Store


class LabelHold(Part):
    """A hold: a user keeps the backup."""

    reason: str = Field(min_length=1)
    held_by: str = ""
    since: AwareDatetime
    until: AwareDatetime | None = None
    """The hold ends at this time; null: when it is released."""


class Label(Part):
    """Name, protection and hold of a backup."""

    format: Literal[1] = 1
    id: str
    container: str
    name: str = Field(min_length=1, max_length=255)
    protected: bool = False
    hold: LabelHold | None = None
    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))

    @property
    def location(self) -> Location:
        """The labelled artifact."""
        return Location(container=self.container, id=self.id)


def put_label(store: Store, label: Label) -> None:
    """Store the label with its artifact, as a new object; delete older ones where the store allows it. Raises StorageError."""
    folder = label.location.labels
    numbers = list_numbers(store, folder)
    if numbers and (newest := _read(store, label.location, numbers[-1])) is not None and _is_same(newest, label):
        return
    put_next(store, folder, label.model_dump_json(indent=1).encode() + b"\n", numbers[-1] if numbers else None)
    try:
        store.delete([numbered_key(folder, number) for number in numbers])
    except StorageError as error:
        import structlog  # here, because it takes 17 MB, and archivers of logs must be small

        structlog.get_logger().info("old labels stay", backup=label.id, reason=error.message)


def delete_labels(store: Store, location: Location) -> None:
    """Delete the labels of an artifact that is gone. Raises StorageError."""
    store.delete([numbered_key(location.labels, number) for number in list_numbers(store, location.labels)])


def load_label(store: Store, location: Location) -> Label | None:
    """The newest label of the artifact, or None. Objects that are no label, or are of another artifact, do not count.

    Raises StorageError.
    """
    for number in reversed(list_numbers(store, location.labels)):
        if (found := _read(store, location, number)) is not None:
            return found
    return None


def _is_same(one: Label, other: Label) -> bool:
    return one.model_copy(update={"at": other.at}) == other


def _read(store: Store, location: Location, number: int) -> Label | None:
    try:
        found = Label.model_validate_json(store.get(numbered_key(location.labels, number), length=MAX_BYTES))
    except (StorageNotFound, ValidationError):
        return None
    return found if found.location == location else None
