"""The interface of a store: immutable objects under keys, and nothing about backups."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Stat:
    """One stored object. ``size`` is in bytes, ``modified`` in UTC; ``md5`` (hex) is set only if the store itself computed it.

    ``metadata`` is what the writer attached to it (keys in lower case), from ``head`` of a store that keeps metadata.
    """

    key: str
    size: int
    modified: datetime
    etag: str | None = None
    md5: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires: datetime | None = None
    """When the store will delete the object automatically: from ``head``, if ``Capabilities.expiry`` is set."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do beyond the required methods."""

    server_checksum: bool
    """``head`` returns a checksum that the store computed from the stored bytes."""
    conditional_create: bool
    """``put(create=True)`` is atomic in the store: exactly one of two concurrent writers succeeds."""
    expiry: bool = False
    """Objects may have a time at which the store deletes them, and ``head`` returns it."""


class Store(Protocol):
    """Objects by key. A key is ``container/name/parts``; no part is empty, ``.`` or ``..``. Methods are thread-safe.

    Every method raises StorageError or one of its subclasses, with the key in the message.
    """

    capabilities: Capabilities

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Stat:
        """Store the whole object durably, or nothing. With ``create``, raises StorageExists if the key is taken."""

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of the object, or of a range of it. Raises StorageNotFound."""

    def head(self, key: str) -> Stat:
        """The current state of the object in the store. Raises StorageNotFound."""

    def list(self, prefix: str) -> Iterator[Stat]:
        """Every object whose key begins with the folder ``prefix`` (a whole number of parts), ordered by key."""

    def folders(self, prefix: str = "") -> Iterator[str]:
        """Names directly below ``prefix`` that have objects under them; without a prefix, the containers."""

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects. It is not an error if one does not exist."""

    def url(self, key: str) -> str:
        """The URL of the object, for display: ``file:///…``, ``s3://bucket/…``."""

    def close(self) -> None:
        """Close connections."""


@runtime_checkable
class JoiningStore(Store, Protocol):
    """A store that can present several objects as one, without copying them."""

    max_joined_objects: int
    """How many objects one call of ``join`` accepts."""

    def join(self, key: str, parts: Sequence[Stat], metadata: Mapping[str, str]) -> Stat:
        """Create ``key`` as the concatenation of ``parts``. Each needs its ``etag``, and may itself be a joined object.

        The parts are not copied: deleting one breaks ``key``; deleting ``key`` does not delete them. Raises StorageError if the
        size or ETag of a part differs from the given one.
        """
