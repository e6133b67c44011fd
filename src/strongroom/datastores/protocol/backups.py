"""Backups of a server: what is asked of a driver, and what it returns."""

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
    """What to take. ``parent`` holds the parent's positions for an incremental."""

    kind: BackupKind
    parent: Positions | None
    work_dir: Path
    """Scratch directory of the job, on local disk, owned by the server's user."""
    parallel: int = 2
    parent_file: Callable[[str], bytes] | None = None
    """Reads a file out of the parent's stored stream. Raises ArtifactError, NotFound, StorageError."""
    kept: Mapping[str, bytes | bytearray] = field(default_factory=dict)
    """Content of those files of the new stream that ``Capabilities.keep`` and ``keep_end`` name, as far as it has passed by."""
    paths: Callable[[], Collection[str]] = tuple
    """Paths of the files that have passed by in the new stream so far; empty when nobody follows it."""
    tell: Callable[[str], None] = lambda message: None
    """Shows people what the backup waits for."""
    profile: Profile = field(default_factory=Profile)
    """Of the server, just read."""
    parent_profile: Profile | None = None
    """Of the server when the parent was taken; none when its manifest has none."""
    parent_witness: Witness | None = None
    """What proves that the server's history contains the parent; none when the parent has none."""


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What the tool said at the end. Only a complete success is returned; all else raises."""

    tool: str
    tool_version: str
    server_version: str
    positions: Positions
    data_bytes: int
    collations: list[Collation] = field(default_factory=list)
    witness: Witness | None = None
    """Written into the server after the end of the backup: with it the backup can be a parent."""
    warnings: list[str] = field(default_factory=list)
    """Sentences: what is not in the backup, and is needed with it."""


class Inspection(Tap, Protocol):
    """Looks at the pages of the database in the stream of a backup."""

    def pages(self) -> Pages:
        """What was found, now that all has been looked at."""


class BackupSession(Protocol):
    """A running backup."""

    @property
    def stdout(self) -> int | Source:
        """The file descriptor of the stream, or what makes it. The caller reads it to its end."""

    expected: int | None
    """Bytes that the stream will have, about; none when nobody can tell."""
    inspection: Inspection | None
    """Who looks at the stream on its way; nobody where the database has no checksums of its pages."""

    def finish(self) -> BackupResult:
        """Close ``stdout``, wait for every process, check every exit status and the tool's success mark.

        Raises ToolFailed, ServerFailed.
        """

    def abort(self) -> None:
        """End every process at once (SIGINT, then SIGKILL) and reap it. Safe to call at any time, also twice."""


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What a backup's own files say of it."""

    kind: BackupKind
    positions: Positions
    server_version: str | None
    """Or its series; none when the stream does not tell."""


class Backups(Protocol):
    """Takes backups of running servers, and knows what is in their streams."""

    def begin(self, server: Server, request: BackupRequest) -> BackupSession:
        """Check versions and permissions, then start the tool.

        Raises VersionMismatch, ServerFailed, ConfigurationError; LineageChanged or WalGone when the server cannot go on from the
        parent, or when nothing proves that its history contains the parent.
        """

    def stream_format(self, server: Server) -> Format:
        """The format of the stream of a backup of the server."""

    def release(self, server: Server, positions: Positions) -> None:
        """A backup that ends at ``positions`` is in the store: what was kept for it, or before it, may go.

        Raises ServerFailed; the backup is good all the same.
        """

    def stream_check(self, positions: Positions) -> Check | None:
        """What proves the files in the stream of a backup; nothing where the stream has no checksums of them."""

    def describe(self, files: Mapping[str, bytes], sizes: Mapping[str, int], said: Positions) -> StreamFacts:
        """Describe an untrusted stream by its own ``Capabilities.side_files``, and by the bytes that each file takes.

        ``said`` is what others say of it, where that is all that is known.
        Raises ArtifactCorrupt when they are missing or damaged, VersionMismatch when it is a backup of something else.
        """
