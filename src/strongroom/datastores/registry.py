"""The datastores by name."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import cast

from strongroom.datastores.protocol.datastore import Datastore
from strongroom.datastores.protocol.servers import Version
from strongroom.errors import InvalidRequest

_PACKAGES = ("mariadb", "mysql", "postgresql")
"""Each datastore has the name of its package, and is made in the module ``driver`` there.

Loaded on first use: a worker needs one of them, and an agent those of its servers.
"""


def list_names() -> list[str]:
    """Names of the datastores, sorted."""
    return sorted(_PACKAGES)


@cache
def get(name: str) -> Datastore:
    """The datastore. Raises InvalidRequest for an unknown name."""
    _require_known(name)
    return cast(Datastore, import_module(f"strongroom.datastores.{name}.driver").DATASTORE)


def discover(name: str, places: Sequence[Path]) -> list[Version]:
    """Versions installed on this host, in the usual places and in ``places``. Unusable ones are left out.

    Raises InvalidRequest for an unknown name.
    """
    _require_known(name)  # only this module: it loads neither the driver nor a client library
    return cast(list[Version], import_module(f"strongroom.datastores.{name}.server.versions").discover(places))


def _require_known(name: str) -> None:
    if name not in _PACKAGES:
        raise InvalidRequest(f"there is no datastore {name!r}", remedy=f"Known are: {', '.join(list_names())}.")
