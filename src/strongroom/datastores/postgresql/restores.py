"""Restores of PostgreSQL: implements ``protocol.restores.Restores``.

Modules that need numpy are imported when a restore begins: see ``backups``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from strongroom.artifact import Collation
from strongroom.datastores.postgresql.profile import collations as rules
from strongroom.datastores.postgresql.server.config import keep_configuration
from strongroom.datastores.protocol.restores import ChainLink, Phase, Restored
from strongroom.datastores.protocol.servers import Server, Version

__all__ = ["find_differences", "keep_configuration", "load", "restore"]


def load() -> None:
    """See ``Restores.load``."""
    from strongroom.datastores.postgresql.restore import chain  # noqa: F401


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
    from strongroom.datastores.postgresql.restore.chain import restore

    return restore(version, chain, target, work_dir, phase, server, log_follows=log_follows)


def find_differences(version: Version, collations: Sequence[Collation]) -> list[str]:
    """See ``Restores.find_differences``."""
    return rules.find_differences(version.programs["server"], collations)
