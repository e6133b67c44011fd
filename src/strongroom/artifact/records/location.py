"""The location of an artifact, and the keys of its parts."""

from __future__ import annotations

import re
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from strongroom.sections import CONTAINER_PATTERN

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"
LOGS = "_logs"
"""Folder of a container for the log archives of its databases. It cannot be the id of an artifact."""
MOST_ATTEMPTS = 99
_PARTS = re.compile(
    r"(?:(?P<attempt>[0-9]{2})-)?(?:[0-9]{8}|index\.json\.zst|(?P<intent>intent\.json))"
    r"|manifest\.json|seal\.json|joined-[0-9]-[0-9]{8}|(?:verifications|labels)/[0-9]{8}\.json"
)


class Part(NamedTuple):
    """An object that belongs to an artifact."""

    key: str
    attempt: int
    is_intent: bool


class Location(BaseModel):
    """An artifact: ``id`` in ``container``. Both are validated, because they may come from untrusted manifests."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    container: str = Field(pattern=CONTAINER_PATTERN)
    id: str = Field(pattern=ID_PATTERN)

    @property
    def prefix(self) -> str:
        """The folder that holds every part."""
        return f"{self.container}/{self.id}"

    @property
    def manifest(self) -> str:
        """Key of the manifest, written last."""
        return f"{self.prefix}/manifest.json"

    @property
    def intent(self) -> str:
        """Key of the intent record of the first attempt."""
        return self.intent_of(0)

    @property
    def index(self) -> str:
        """Key of the index of the stream, as the first attempt writes it."""
        return self.index_of(0)

    def intent_of(self, attempt: int) -> str:
        """Key of an intent record, written first and removed after the manifest."""
        return f"{self._attempt(attempt)}intent.json"

    def index_of(self, attempt: int) -> str:
        """Key of the index of the stream."""
        return f"{self._attempt(attempt)}index.json.zst"

    def segment(self, number: int, attempt: int = 0) -> str:
        """Key of a segment. Eight digits, so that keys sort in the order of the stream."""
        return f"{self._attempt(attempt)}{number:08d}"

    def _attempt(self, number: int) -> str:
        """Prefix of keys. Attempts after the first have a number, for stores that cannot delete the objects of earlier ones."""
        return f"{self.prefix}/{number:02d}-" if number else f"{self.prefix}/"

    def parse_part(self, key: str) -> Part | None:
        """The part of this artifact with this key, or None if the key is not one of its keys.

        Deletion uses this, so that a listing of the store cannot cause the deletion of other objects.
        """
        found = _PARTS.fullmatch(key.removeprefix(f"{self.prefix}/")) if key.startswith(f"{self.prefix}/") else None
        if found is None:
            return None
        return Part(key=f"{self.prefix}/{found[0]}", attempt=int(found["attempt"] or 0), is_intent=found["intent"] is not None)

    @property
    def seal(self) -> str:
        """Key of the proof that the control plane has recorded the manifest."""
        return f"{self.prefix}/seal.json"

    @property
    def verifications(self) -> str:
        """The folder of the results of verifications."""
        return f"{self.prefix}/verifications"

    @property
    def labels(self) -> str:
        """The folder of the names and protections that people gave the backup later."""
        return f"{self.prefix}/labels"

    def joint(self, level: int, number: int) -> str:
        """Key of an object that joins some segments, if there are too many for one."""
        return f"{self.prefix}/joined-{level}-{number:08d}"
