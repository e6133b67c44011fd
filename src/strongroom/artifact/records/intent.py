"""The intent record: which service writes an artifact. Written before the first byte, removed after the manifest."""

from __future__ import annotations

import os
import socket
from datetime import UTC, datetime

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from strongroom.artifact.records.location import Location
from strongroom.errors import StorageNotFound
from strongroom.storage import Store


class Intent(BaseModel):
    """``owner`` is the service that may delete the rest after the writer died."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    owner: str = ""
    host: str = Field(default_factory=socket.gethostname)
    pid: int = Field(default_factory=os.getpid)
    started: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))

    @classmethod
    def load(cls, store: Store, location: Location, attempt: int = 0) -> Intent | None:
        """The record at ``location``, or None if it is missing or invalid."""
        try:
            intent = cls.model_validate_json(store.get(location.intent_of(attempt), length=64 * 1024))
        except (StorageNotFound, ValidationError):
            return None
        return intent if intent.id == location.id else None
