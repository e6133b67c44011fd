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
    from strongroom.datastores.mariadb._driver import MariaDB
    from strongroom.datastores.mysql.driver import MySQL
    from strongroom.datastores.postgresql.driver import PostgreSQL

    _whole: list[Datastore] = [MariaDB(), MySQL(), PostgreSQL()]

_DRIVERS = {"mariadb": ("_driver", "MariaDB"), "mysql": ("driver", "MySQL"), "postgresql": ("driver", "PostgreSQL")}
"""Module and class of each driver, in the package with the name of the database.

Loaded on first use: a worker needs one of them, and an agent those of its servers.
"""
_VERSIONS = {"mariadb": "_versions", "mysql": "server.versions", "postgresql": "server.versions"}
"""Module of each database that finds installed versions. It loads neither the driver nor a client library."""


def names() -> list[str]:
    """Names of the databases, sorted."""
    return sorted(_DRIVERS)


@cache
def get(name: str) -> Datastore:
    """The driver. Raises InvalidRequest for an unknown name."""
    _require_known(name)
    module, driver = _DRIVERS[name]
    return cast(Datastore, getattr(import_module(f"strongroom.datastores.{name}.{module}"), driver)())


def discover(name: str, places: Sequence[Path]) -> list[Version]:
    """Versions installed on this host, in the usual places and in ``places``. Unusable ones are left out.

    Raises InvalidRequest for an unknown name.
    """
    _require_known(name)
    return cast(list[Version], import_module(f"strongroom.datastores.{name}.{_VERSIONS[name]}").discover(places))


def _require_known(name: str) -> None:
    if name not in _DRIVERS:
        raise InvalidRequest(f"there is no datastore {name!r}", remedy=f"Known are: {', '.join(names())}.")
