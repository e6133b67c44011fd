"""The databases that we know, by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from strongroom.datastores.protocol.datastore import Datastore
from strongroom.datastores.protocol.servers import Version
from strongroom.errors import InvalidRequest

if TYPE_CHECKING:  # the cast below would hide what a driver lacks
    from strongroom.datastores.mariadb.driver import MariaDB
    from strongroom.datastores.mysql.driver import MySQL
    from strongroom.datastores.postgresql.driver import PostgreSQL

    _whole: list[Datastore] = [MariaDB(), MySQL(), PostgreSQL()]

_DRIVERS = {"mariadb": "MariaDB", "mysql": "MySQL", "postgresql": "PostgreSQL"}
"""Class of each driver, in the module ``driver`` of the package with the name of the database.

Loaded on first use: a worker needs one of them, and an agent those of its servers.
"""


def names() -> list[str]:
    """Names of the databases, sorted."""
    return sorted(_DRIVERS)


@cache
def get(name: str) -> Datastore:
    """The driver. Raises InvalidRequest for an unknown name."""
    _require_known(name)
    return cast(Datastore, getattr(import_module(f"strongroom.datastores.{name}.driver"), _DRIVERS[name])())


def discover(name: str, places: Sequence[Path]) -> list[Version]:
    """Versions installed on this host, in the usual places and in ``places``. Unusable ones are left out.

    Raises InvalidRequest for an unknown name.
    """
    _require_known(name)  # only this module: it loads neither the driver nor a client library
    return cast(list[Version], import_module(f"strongroom.datastores.{name}.server.versions").discover(places))


def _require_known(name: str) -> None:
    if name not in _DRIVERS:
        raise InvalidRequest(f"there is no datastore {name!r}", remedy=f"Known are: {', '.join(names())}.")
