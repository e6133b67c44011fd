"""Restores: from a chain of backups to a data directory."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from strongroom.artifact import Collation, Format, Pages, Positions, Profile
from strongroom.datastores.protocol.backups import BackupKind
from strongroom.datastores.protocol.servers import Server, Version


class ChainLink(Protocol):
    """One backup of a chain, as a restore reads it."""

    kind: BackupKind
    positions: Positions
    server_version: str
    raw_size: int
    """Bytes of the stream."""
    data_size: int
    """Bytes of the data directory that was backed up."""
    pages: Pages | None
    """Result of the page checksums when the backup was taken; none for a database without page checksums."""
    profile: Profile | None
    """Profile of the server when the backup was taken; none in older and in imported backups."""
    stream: Format

    def chunks(self) -> Generator[bytes | memoryview, None, None]:
        """The raw, verified stream, piece by piece. Raises ArtifactError, StorageError."""

    def files(self) -> Collection[str]:
        """Paths of the files in the stream. Raises NotFound when it has no index, ArtifactError, StorageError."""

    def extract(self, paths: Iterable[str]) -> Iterator[bytes | memoryview]:
        """The part of the stream with these files, verified, in its order. Only the segments with these files are fetched.

        Raises as ``files`` and ``chunks`` do.
        """


Phase = Callable[[str], None]
"""Reports which phase has begun: ``extract``, ``prepare``, ``extract incremental 1``, ``apply incremental 1``…"""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a prepared data directory contains."""

    positions: Positions
    facts: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    """Settings that the data needs, as found in the stream, for a backup without a profile."""
    warnings: Sequence[str] = ()
    """What users have to know about the data."""


class Restores(Protocol):
    """Makes data directories from backups."""

    def load(self) -> None:
        """Import what only backups and restores need, for a process that will not be able to read its modules later."""

    def restore(
        self,
        version: Version,
        chain: Sequence[ChainLink],
        target: Path,
        work_dir: Path,
        phase: Phase,
        server: Server | None = None,
        *,
        log_follows: bool = False,
    ) -> Restored:
        """Extract and prepare ``chain`` (a full, then its incrementals) into the empty directory ``target``.

        ``server`` is the server that gets the data and has the encryption keys; none for a rehearsal. With ``log_follows``,
        ``Logs.replay`` comes next, and only its result is ready for a server.

        Raises VersionMismatch before anything is written, ToolFailed, ArtifactError. After an error, the content of ``target`` is
        unusable.
        """

    def find_differences(self, version: Version, collations: Sequence[Collation]) -> list[str]:
        """Describe how this host differs from the host of the backup in ways that can change the meaning of restored data."""

    def keep_configuration(self, server: Server, new: Path) -> None:
        """Copy the owner's configuration of an adopted server into ``new``, which replaces its data directory next."""
