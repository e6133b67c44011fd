"""What a store is to the rest of Strongroom: immutable objects under keys, and nothing about backups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Stat:
    """One stored object. ``size`` in bytes; ``md5`` (hex) only where the store computes it on its side; ``modified`` is UTC.

    ``metadata`` is what its writer said of it (keys in lower case), from ``head`` of a store that keeps such a thing.
    """

    key: str
    size: int
    modified: datetime
    etag: str | None = None
    md5: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires: datetime | None = None
    """When the store deletes the object by itself, from ``head`` where ``Capabilities.expiry`` says so."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do beyond the least."""

    server_checksum: bool
    """``head`` returns a checksum that the store computed from what it holds."""
    conditional_create: bool
    """``put(create=True)`` is atomic on the side of the store."""
    expiry: bool = False
    """Objects may have a time at which the store deletes them, and ``head`` tells it."""


class Store(Protocol):
    """Objects by key. Keys are ``container/name/parts``; no part is empty, ``.`` or ``..``. Safe to use from many threads.

    Every method raises StorageError or one of its children, with the key in the message.
    """

    capabilities: Capabilities

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
        """Store the whole object durably, or not at all. With ``create``, StorageExists when the key is taken."""

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of the object, or of a range of it. StorageNotFound when there is none."""

    def head(self, key: str) -> Stat:
        """What the store says of the object now. StorageNotFound when there is none."""

    def list(self, prefix: str) -> Iterator[Stat]:
        """Every object whose key begins with the folder ``prefix`` (a whole number of parts), in order of key."""

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Names directly below ``prefix`` that have objects under them; with no prefix: the containers."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; one that is not there is no error."""

    def url(self, key: str) -> str:
        """A location to show to people: ``file:///…``, ``s3://bucket/…``."""

    def close(self) -> None:
        """Give connections back."""


@runtime_checkable
class Joining(Store, Protocol):
    """A store that can show several objects as one, without copying them."""

    most_joined: int
    """How many objects one call of ``join`` takes."""

    def join(self, key: str, parts: Sequence[Stat], metadata: Mapping[str, str]) -> Stat:
        """Make ``key`` the object that reads as ``parts`` one after the other. Each needs its ``etag``, and may itself be joined.

        The parts stay where they are: to delete one breaks ``key``, to delete ``key`` leaves them. Raises StorageError when one
        of them is not as it says.
        """
