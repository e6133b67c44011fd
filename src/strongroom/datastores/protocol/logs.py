"""The part of a datastore that archives the log of a server, and applies it to restored data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from strongroom.archive import MAX_AGE, Contents, Head, LogLocation, Stretch, Target
from strongroom.artifact import Positions, Profile
from strongroom.datastores.protocol.servers import Server, Version
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


OUTDATED = frozenset({"GTID state"})
"""Items of notices about a backup that no longer hold after a log was applied to it."""


class Archiver(Protocol):
    """Reads the log of one server. ``run`` and ``close`` are called from one thread, everything else from any."""

    @property
    def durable(self) -> Head | None:
        """Where the archive ends in the store; None before the first series."""

    @property
    def trouble(self) -> StrongroomError | None:
        """Why the archive does not advance at present; None while it works."""

    @property
    def complete_until(self) -> int | None:
        """Everything that the server wrote until then is stored, in microseconds since 1970; None while that is not known."""

    @property
    def warnings(self) -> Sequence[str]:
        """What the owner of the server should change so that the archive, or the server, survives more."""

    def run(self) -> None:
        """Archive until ``stop``; if the server or the store fails, try again. Raises StrongroomError if that is useless."""

    def stop(self) -> None:
        """Make ``run`` store what it has and return."""

    def close(self) -> None:
        """Release what the archiver holds, after ``run`` has returned."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where the log continues a restored backup."""

    series: int
    position: str
    complete: str = ""
    """The data contains nothing after this position; empty: after ``position``."""

    @property
    def reaches(self) -> str:
        """Targets before this position cannot be restored from the backup."""
        return self.complete or self.position


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction in the log, as a plan shows it."""

    begin: str
    """The last position without it."""
    end: str
    """The first position with it."""
    time: int
    """Microseconds since 1970."""
    name: str
    """A GTID, or the id of a PostgreSQL transaction."""
    tables: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Cut:
    """The exact position of a target."""

    series: int
    position: str
    """The log up to it is applied, and nothing after it."""
    last: Transaction | None
    """The last transaction before the cut, if the stretch contains one."""
    next: Transaction | None
    """The first one after it, if the stretch contains one."""


def _ignore(done: int, time: int | None) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Replay:
    """The log that is applied to restored data."""

    stretch: Stretch
    start: Start
    """Where the data is."""
    end: str
    """The position of the cut, in the last piece of the stretch."""
    on_progress: Callable[[int, int | None], None] = _ignore
    """Called with the bytes of the log that were applied, and the time of the last transaction in microseconds, if known."""
    profile: Profile = field(default_factory=Profile)
    """Of the backup: a private server needs the settings and plugins of the source."""
    restored: Positions = field(default_factory=Positions)
    """What ``Restores.restore`` found in the data; some copies do not know their position exactly before."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What was applied."""

    transactions: int | None
    """Those that were applied; None if the database does not count them."""
    positions: Positions
    """Where the data is now."""
    warnings: Sequence[str] = ()
    facts: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    """Settings that the data needs now, although the profile of the backup has others."""


class Logs(Protocol):
    """Log archives of a kind of database."""

    def open_archiver(self, server: Server, request: LogRequest) -> Archiver:
        """An archiver that was not started yet. Raises Unsupported for a server whose log cannot be archived."""

    def release(self, server: Server) -> None:
        """Remove what an archiver leaves on the server, such as a slot that keeps its log.

        Raises ServerFailed, ConfigurationError.
        """

    def create_point(self, server: Server, name: str) -> str:
        """Write a restore point with this name into the log of a running server. Returns its position.

        Raises Unsupported for a database without restore points, InvalidRequest for a name that it refuses, ServerFailed.
        """

    def precedes(self, first: str, second: str) -> bool:
        """Whether the first position is before the second, or equal. Raises ValueError for text that is not a position."""

    def find_start(self, backup: Positions, log: Sequence[Contents]) -> Start | None:
        """Where the log continues the backup; None if no series contains the position of the backup."""

    def find_cut(self, target: Target, stretch: Stretch) -> Cut:
        """The exact position of the target. Only the segments that can contain it are read.

        Raises NotFound if the stretch does not contain it, InvalidRequest for a kind of target that the database does not have,
        ArtifactError, StorageError.
        """

    def replay(self, version: Version, data_dir: Path, work_dir: Path, replay: Replay, server: Server | None = None) -> Replayed:
        """Apply the log to ``data_dir``, which ``Restores.restore`` has made (``log_follows``), with a private server.

        Afterwards ``data_dir`` is ready for its server, as after ``Restores.restore``. Raises ToolFailed, ServerFailed,
        ArtifactError, StorageError; then the content of ``data_dir`` is unusable. It never ends at an earlier position silently.
        """
