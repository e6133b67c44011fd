"""Restores of MariaDB: implements ``protocol.restores.Restores``."""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.artifact import Collation
from strongroom.datastores.mariadb.restore.chain import restore
from strongroom.datastores.mariadb.server.kept import keep_configuration
from strongroom.datastores.protocol.servers import Version

__all__ = ["find_differences", "keep_configuration", "load", "restore"]


def load() -> None:
    """Everything is imported already."""


def find_differences(version: Version, collations: Sequence[Collation]) -> list[str]:
    """None: MariaDB contains its own collations."""
    return []
