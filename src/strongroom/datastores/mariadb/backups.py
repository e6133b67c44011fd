"""Backups of MariaDB: implements ``protocol.backups.Backups``."""

from __future__ import annotations

from collections.abc import Mapping

from strongroom.artifact import Check, Format, Positions
from strongroom.datastores.innodb import checkpoints
from strongroom.datastores.mariadb.backup.session import begin
from strongroom.datastores.protocol.backups import StreamFacts
from strongroom.datastores.protocol.servers import Server

__all__ = ["begin", "describe", "release", "stream_check", "stream_format"]


def stream_format(server: Server) -> Format:
    """See ``Backups.stream_format``."""
    return "mbstream"


def release(server: Server, positions: Positions) -> None:
    """Nothing is kept for backups."""


def stream_check(positions: Positions) -> Check | None:
    """None: the stream has no checksums of its files."""
    return None


def describe(files: Mapping[str, bytes], sizes: Mapping[str, int], said: Positions) -> StreamFacts:
    """See ``Backups.describe``."""
    return checkpoints.describe(files, "MariaDB")
