"""The databases that we know, by name."""

from __future__ import annotations

from strongroom.datastores._protocol import Datastore
from strongroom.datastores.mariadb import MariaDB
from strongroom.datastores.postgresql import PostgreSQL
from strongroom.errors import InvalidRequest

_KNOWN: dict[str, Datastore] = {driver.name: driver for driver in (MariaDB(), PostgreSQL())}


def names() -> list[str]:
    """Names of the databases, sorted."""
    return sorted(_KNOWN)


def get(name: str) -> Datastore:
    """The driver. Raises InvalidRequest for an unknown name."""
    try:
        return _KNOWN[name]
    except KeyError:
        raise InvalidRequest(f"there is no datastore {name!r}", remedy=f"Known are: {', '.join(names())}.") from None
