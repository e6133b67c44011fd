"""Backups of a server: the request to a driver, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from strongroom.artifact import Check, Collation, Format, Pages, Positions, Profile, Source, Tap, Witness
from strongroom.datastores.protocol.servers import Server

BackupKind = Literal["full", "incremental"]


@dataclass(frozen=True, slots=True)
class BackupRequest:
    """A backup to take. ``parent`` has the positions of the parent of an incremental."""

    kind: BackupKind
    parent: Positions | None
    work_dir: Path
    """Scratch directory of the job, on local disk, owned by the server's user."""
    parallel: int = 2
    parent_file: Callable[[str], bytes] | None = None
    """Reads a file out of the parent's stored stream. Raises ArtifactError, NotFound, StorageError."""
    kept: Mapping[str, bytes | bytearray] = field(default_factory=dict)
    """Content of the files that ``Capabilities.keep`` and ``keep_end`` name, as far as the new stream has been read."""
    paths: Callable[[], Collection[str]] = tuple
    """Paths of the files in the new stream, as far as it has been read; empty if the stream is not parsed."""
    tell: Callable[[str], None] = lambda message: None
    """Shows users what the backup waits for."""
    profile: Profile = field(default_factory=Profile)
    """The profile of the server, just read."""
    parent_profile: Profile | None = None
    """The profile of the server when the parent was taken; none if the parent's manifest has none."""
    parent_witness: Witness | None = None
    """Proves that the server's history contains the parent; none if the parent has none."""


@dataclass(frozen=True, slots=True)
class BackupResult:
    """The result of a complete success. Everything else raises an error."""

    tool: str
    tool_version: str
    server_version: str
    positions: Positions
    data_bytes: int
    collations: list[Collation] = field(default_factory=list)
    witness: Witness | None = None
    """Written into the server after the end of the backup, so that the backup can be a parent."""
    warnings: list[str] = field(default_factory=list)
    """Sentences about what is not in the backup but is needed with it."""


class Inspection(Tap, Protocol):
    """Checks the pages of the database in the stream of a backup."""

    def pages(self) -> Pages:
        """The result, after the end of the stream."""


class BackupSession(Protocol):
    """A running backup."""

    @property
    def stdout(self) -> int | Source:
        """The file descriptor or the source of the stream. The caller reads it to its end."""

    expected: int | None
    """Approximate size of the stream in bytes; none if it is unknown."""
    inspection: Inspection | None
    """Checks the pages in the stream; none for a database without page checksums."""

    def finish(self) -> BackupResult:
        """Close ``stdout``, wait for every process, check every exit status and the tool's success message.

        Raises ToolFailed, ServerFailed.
        """

    def abort(self) -> None:
        """End every process immediately (SIGINT, then SIGKILL) and reap it. May be called at any time, and twice."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What the files of a backup say about it."""

    kind: BackupKind
    positions: Positions
    server_version: str | None
    """Or the series; none if the stream does not contain it."""


class Backups(Protocol):
    """Takes backups of running servers, and describes their streams."""

    def begin(self, server: Server, request: BackupRequest) -> BackupSession:
        """Check versions and permissions, then start the tool.

        Raises VersionMismatch, ServerFailed, ConfigurationError; LineageChanged or WalGone if the server cannot continue from the
        parent, or when nothing proves that its history contains the parent.
        """

    def stream_format(self, server: Server) -> Format:
        """The format of the stream of a backup of the server."""

    def release(self, server: Server, positions: Positions) -> None:
        """Release what the server kept for a backup that ends at ``positions``, which is in the store now.

        Raises ServerFailed; the backup is good nevertheless.
        """

    def stream_check(self, positions: Positions) -> Check | None:
        """Verifies the files in the stream of a backup; none if the stream has no checksums of files."""

    def describe(self, files: Mapping[str, bytes], sizes: Mapping[str, int], said: Positions) -> StreamFacts:
        """Describe an untrusted stream by its own ``Capabilities.side_files``, and by the bytes that each file takes.

        ``said`` are the positions from other sources, for what the stream does not contain.
        Raises ArtifactCorrupt when they are missing or damaged, VersionMismatch when it is a backup of something else.
        """
