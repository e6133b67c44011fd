"""Restores of MySQL: implements ``protocol.restores.Restores``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from strongroom.artifact import Collation
from strongroom.datastores.mysql.backup import xtrabackup
from strongroom.datastores.mysql.restore import chain as clones
from strongroom.datastores.mysql.server.config import keep_configuration
from strongroom.datastores.protocol.restores import ChainLink, Phase, Restored
from strongroom.datastores.protocol.servers import Server, Version

__all__ = ["find_differences", "keep_configuration", "load", "restore"]


def load() -> None:
    """Everything is imported already."""


def restore(
    version: Version,
    chain: Sequence[ChainLink],
    target: Path,
    work_dir: Path,
    phase: Phase,
    server: Server | None = None,
    *,
    log_follows: bool = False,
) -> Restored:
    """See ``Restores.restore``."""
    if chain[0].stream == "mbstream":
        return xtrabackup.restore(version, chain, target, work_dir, phase)
    return clones.restore(version, chain, target, work_dir, phase, rehearsal=server is None)


def find_differences(version: Version, collations: Sequence[Collation]) -> list[str]:
    """None: MySQL contains its own collations."""
    return []
