"""Ids of datastores and of their versions."""

from __future__ import annotations

import uuid
from functools import lru_cache


@lru_cache(256)
def version_id(*names: str) -> str:
    """Stable id of a datastore (one name) or of a version of it (datastore, series): the same on every service."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "strongroom:datastore:" + ":".join(names)))
