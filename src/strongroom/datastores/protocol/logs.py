"""The part of a datastore that archives the log of a server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from strongroom.archive import MAX_AGE, Head, LogLocation
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import StrongroomError
from strongroom.sections import Artifact
from strongroom.storage import Store


@dataclass(frozen=True, slots=True)
class LogRequest:
    """Where the log of a server goes, and how."""

    store: Store
    log: LogLocation
    settings: Artifact
    recipients: Sequence[str] = ()
    lineage: str = ""
    """Random id of the data directory."""
    max_age: float = MAX_AGE
    """Seconds that the log waits before it is stored."""


class Archiver(Protocol):
    """Reads the log of one server. ``run`` and ``close`` are called from one thread, everything else from any."""

    @property
    def durable(self) -> Head | None:
        """Where the archive ends in the store; None before the first series."""

    @property
    def trouble(self) -> StrongroomError | None:
        """Why the archive does not advance at present; None while it works."""

    def run(self) -> None:
        """Archive until ``stop``; if the server or the store fails, try again. Raises StrongroomError if that is useless."""

    def stop(self) -> None:
        """Make ``run`` store what it has and return."""

    def close(self) -> None:
        """Release what the archiver holds, after ``run`` has returned."""


class Logs(Protocol):
    """Log archives of a kind of database."""

    def open_archiver(self, server: Server, request: LogRequest) -> Archiver:
        """An archiver that was not started yet. Raises Unsupported for a server whose log cannot be archived."""
