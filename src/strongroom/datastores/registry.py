"""The databases that we know, by name."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, cast

from strongroom.datastores.protocol.datastore import Datastore
from strongroom.errors import InvalidRequest

if TYPE_CHECKING:  # the cast below would hide what a driver lacks
    from strongroom.datastores.mariadb import MariaDB
    from strongroom.datastores.mysql import MySQL
    from strongroom.datastores.postgresql import PostgreSQL

    _whole: list[Datastore] = [MariaDB(), MySQL(), PostgreSQL()]

_DRIVERS = {"mariadb": "MariaDB", "mysql": "MySQL", "postgresql": "PostgreSQL"}
"""Class of the driver, by the name of the database and of its package. Loaded on first use: a worker needs one of them."""


def names() -> list[str]:
    """Names of the databases, sorted."""
    return sorted(_DRIVERS)


@cache
def get(name: str) -> Datastore:
    """The driver. Raises InvalidRequest for an unknown name."""
    if name not in _DRIVERS:
        raise InvalidRequest(f"there is no datastore {name!r}", remedy=f"Known are: {', '.join(names())}.")
    return cast(Datastore, getattr(import_module(f"strongroom.datastores.{name}"), _DRIVERS[name])())
