"""The seal of an artifact: a MAC of its manifest, with a key that only the control plane has, stored with the artifact.

The catalog knows the hash of each manifest. A seal gives the same proof after the catalog was lost: someone who can write to the
bucket, or who controls a database host, cannot make one. ``docs/artifact.md`` describes the object.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
from typing import Literal

from pydantic import Field, ValidationError

from strongroom.artifact.records.location import Location
from strongroom.artifact.records.part import Part
from strongroom.errors import StorageExists, StorageNotFound
from strongroom.storage import Store

Verdict = Literal["sealed", "forged", "unsealed", "other key"]
"""Valid seal; wrong seal with our key; no readable seal; seal with another key."""
_MAX_BYTES = 4096
_PURPOSE = b"strongroom seal of a manifest 1\n"


class Seal(Part):
    """Content of ``seal.json``."""

    format: Literal[1] = 1
    key_id: str = Field(pattern=r"^[0-9a-f]{16}$", description="The beginning of the SHA-256 of the key.")
    mac: str = Field(pattern=r"^[0-9a-f]{64}$", description="HMAC-SHA-256 of container, id and the SHA-256 of the manifest.")


def put_seal(store: Store, location: Location, manifest_sha256: str, key: bytes) -> None:
    """Seal the artifact. An existing seal is kept. Raises StorageError."""
    seal = Seal(key_id=_id_of(key), mac=_mac(location, manifest_sha256, key))
    with contextlib.suppress(StorageExists):
        store.put(location.seal, seal.model_dump_json(indent=1).encode() + b"\n", create=True)


def check_seal(store: Store, location: Location, manifest_sha256: str, key: bytes) -> Verdict:
    """Check the seal of the artifact against the hash of its manifest. Raises StorageError."""
    try:
        seal = Seal.model_validate_json(store.get(location.seal, length=_MAX_BYTES))
    except (StorageNotFound, ValidationError):
        return "unsealed"
    if seal.key_id != _id_of(key):
        return "other key"
    return "sealed" if hmac.compare_digest(seal.mac, _mac(location, manifest_sha256, key)) else "forged"


def _id_of(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:16]


def _mac(location: Location, manifest_sha256: str, key: bytes) -> str:
    return hmac.new(key, _PURPOSE + f"{location.prefix}\n{manifest_sha256}\n".encode(), hashlib.sha256).hexdigest()
