"""The datastores by name."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from strongroom.datastores.protocol.datastore import Datastore
from strongroom.errors import InvalidRequest

_PACKAGES = ("mariadb", "mysql", "postgresql")
"""Each datastore has the name of its package. A package is imported on first use: a worker needs one of them."""


def names() -> list[str]:
    """Names of the datastores, sorted."""
    return sorted(_PACKAGES)


@cache
def get(name: str) -> Datastore:
    """The datastore. Raises InvalidRequest for an unknown name."""
    if name not in _PACKAGES:
        raise InvalidRequest(f"there is no datastore {name!r}", remedy=f"Known are: {', '.join(names())}.")
    found = import_module(f"strongroom.datastores.{name}").DATASTORE
    assert isinstance(found, Datastore)
    return found
