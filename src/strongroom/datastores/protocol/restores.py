"""Restores: the chain of backups that a driver gets, and what it makes of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from strongroom.artifact import Collation, Format, Pages, Positions, Profile
from strongroom.datastores.protocol.backups import BackupKind
from strongroom.datastores.protocol.servers import Server, Version


class ChainLink(Protocol):
    """One backup of a chain as a restore sees it."""

    kind: BackupKind
    positions: Positions
    server_version: str
    raw_size: int
    """Bytes of the stream."""
    data_size: int
    """Bytes of the data directory that was backed up."""
    pages: Pages | None
    """What the checksums of its pages said when it was taken; none where the database has no such checksums."""
    profile: Profile | None
    """Of its server when it was taken; none in older and in imported backups."""
    stream: Format

    def chunks(self) -> Generator[bytes | memoryview, None, None]:
        """The raw, verified stream, piece by piece. Raises ArtifactError, StorageError."""

    def files(self) -> Collection[str]:
        """Paths of the files in the stream. Raises NotFound when it has no index, ArtifactError, StorageError."""

    def extract(self, paths: Iterable[str]) -> Iterator[bytes | memoryview]:
        """The part of the stream that holds these files, verified, in its order. Fetches what is needed for them only.

        Raises as ``files`` and ``chunks`` do.
        """


Phase = Callable[[str], None]
"""Tells which phase has begun: ``extract``, ``prepare``, ``extract incremental 1``, ``apply incremental 1``…"""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a prepared data directory holds."""

    positions: Positions
    facts: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    """What the stream itself says of the settings that the data needs, for a backup without a profile."""
    warnings: Sequence[str] = ()
    """What people have to know of the data."""


class Restores(Protocol):
    """Makes data directories out of backups."""

    def load(self) -> None:
        """Import what only backups and restores need, for a process that cannot read its own modules later."""

    def restore(
        self,
        version: Version,
        chain: Sequence[ChainLink],
        target: Path,
        work_dir: Path,
        phase: Phase,
        server: Server | None = None,
    ) -> Restored:
        """Extract and prepare ``chain`` (a full, then its incrementals) into the empty directory ``target``.

        ``server`` is the server that gets the data; none for a rehearsal. Keys that the data is encrypted with are its own.

        Raises VersionMismatch before anything is written, ToolFailed, ArtifactError. What is in ``target`` after an error is
        worthless.
        """

    def find_differences(self, version: Version, collations: Sequence[Collation]) -> list[str]:
        """What is different on this host from where a backup was taken, so that restored data may not be as it was."""

    def keep_configuration(self, server: Server, new: Path) -> None:
        """Before ``new`` takes the place of the data directory of an adopted server: what its owner has set stays as it is."""
