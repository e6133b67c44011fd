"""The interface of a database: the protocol ``Datastore`` and its parts, capabilities, and the values that are exchanged."""

from __future__ import annotations

import signal
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from pydantic import Field

from strongroom.artifact import Check, Collation, Format, Pages, Positions, Profile, Source, Tap, Witness
from strongroom.datastores.protocol.nodes import GaleraPosition, GaleraView, TableSums
from strongroom.datastores.protocol.placement import Placement
from strongroom.datastores.protocol.profiles import Profiles
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.protocol.strict import Strict

BackupKind = Literal["full", "incremental"]


class DatabaseSpec(Strict):
    """A database (schema) of a server."""

    name: str
    character_set: str | None = None
    collate: str | None = None


class UserSpec(Strict):
    """An account of a server. ``password`` is never returned."""

    name: str
    host: str = "%"
    password: str | None = Field(None, repr=False)
    databases: list[str] = Field(default_factory=list)


class UserChange(Strict):
    """What is to be different of an account; none stays as it is."""

    name: str | None = None
    host: str | None = None
    password: str | None = Field(None, repr=False)


class Facts(Strict):
    """What a running server says of itself."""

    version_number: str
    data_dir: Path | None = Field(None, description="The data directory that the server says it has.")
    galera: dict[str, str] | None = Field(None, description="wsrep status, when the server is a member of a cluster.")
    warning: str = Field("", description="What will be wrong before long, though the server serves.")


class Sizes(Strict):
    """What a data directory takes up."""

    data_bytes: int = Field(description="Bytes in the data directory.")
    wal_bytes: int | None = Field(None, description="Bytes of WAL among them, where the database has WAL.")


class Finding(Strict):
    """Something that was looked at."""

    level: Literal["ok", "warning", "error"]
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a driver can do."""

    incremental: bool
    log_apply: bool
    """Incrementals are applied one after the other to a prepared parent."""
    keep: frozenset[str] = frozenset()
    """Files of the stream whose content ``finish`` wants to see."""
    keep_end: frozenset[str] = frozenset()
    """Files of the stream of whose content ``finish`` wants to see the last 16 KiB."""
    hosts: bool = True
    """A user is a name and a host from which it may connect."""
    aio_events: int = 0
    """Events of asynchronous I/O (fs.aio-max-nr) without which a server of usual settings does not start."""


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


@dataclass(frozen=True, slots=True)
class StreamFacts:
    """What a backup's own files say of it."""

    kind: BackupKind
    positions: Positions
    server_version: str | None
    """Or its series; none when the stream does not tell."""


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


class Galera(Protocol):
    """What can be asked of the nodes of Galera clusters (called by the agent)."""

    def view(self, server: Server, *, running: bool) -> GaleraView:
        """The node as it is now; never fails."""

    def receiving(self, server: Server) -> bool:
        """Another node sends it all its data, or was cut off in that: what it has is not whole."""

    def position(self, server: Server) -> GaleraPosition:
        """Where the data of a stopped node stands. Raises Conflict when it has none, ToolFailed, ServerFailed."""

    def start_options(self, server: Server, *, bootstrap: bool, expected: str | None = None) -> list[str]:
        """What is added to the start command this once. Raises Conflict when it cannot bootstrap, or not at ``expected``."""

    def seed(self, server: Server, data_dir: Path, uuid: str) -> GaleraPosition:
        """Give a prepared directory the identity of a new cluster. Idempotent. Raises ToolFailed, ServerFailed."""

    def ports(self) -> Sequence[int]:
        """Where nodes listen, beside the port of the datastore."""

    def set_desync(self, server: Server, desync: bool) -> bool:
        """Whether the cluster waits for this node when it falls behind; true when this has changed something."""

    def write_canary(self, server: Server, word: str) -> None:
        """Write a word through this node."""

    def canaries(self, server: Server) -> list[str]:
        """Words that it reads, with all that was committed on any node."""

    def drop_canaries(self, server: Server) -> None:
        """Remove them."""

    def checksums(self, server: Server, *, tables: Collection[str] | None = None, at: int | None = None) -> TableSums:
        """Checksums of the tables of users that clusters replicate, or of those of them that are named.

        With ``at`` all are taken from one snapshot, made after this transaction if it comes within a few seconds.
        """


class Datastore(Protocol):
    """One kind of database. Stateless; every call names the server."""

    name: str
    default_port: int
    default_user: str
    """OS user that servers run as when the service is root."""
    socket_name: str
    """Name of a server's socket in the directory of its own."""
    stop_signal: signal.Signals
    """What ends a server in good order, whoever is connected."""
    capabilities: Capabilities
    side_files: frozenset[str]
    """Names of the small files of a stream that ``describe`` reads."""
    galera: Galera | None
    """None where there are no Galera clusters of it."""
    profiles: Profiles
    placement: Placement

    def load(self) -> None:
        """Import what only backups and restores need, for a process that cannot read its own modules later."""

    # --- life of a server (called by the agent, as root or as the server's own user)

    def configure(self, server: Server) -> None:
        """Write the server's own files below ``base_dir`` (process runtime). Idempotent; secrets are made once, 0600."""

    def start_argv(self, server: Server) -> list[str]:
        """The command of the server, to be run as ``server.user`` in its own session."""

    def ready(self, server: Server) -> Facts:
        """Ask the server whether it serves. Raises ServerFailed, with the end of its log, while it does not."""

    def measure(self, data_dir: Path) -> Sizes:
        """The sizes of all files of a server: takes longer than to ask whether it serves."""

    def check_data(self, server: Server, data_dir: Path) -> None:
        """Gate before a start: refuse (ServerFailed) a directory that was extracted but not prepared."""

    def lineage(self, data_dir: Path, *, renew: bool = False) -> str:
        """The random id in the data directory, made when it is missing; ``renew`` makes another."""

    def examine(self, server: Server) -> Iterator[Finding]:
        """What a server of somebody else lacks for backups, with what its owner would have to do. Changes nothing."""

    def keep_configuration(self, server: Server, new: Path) -> None:
        """Before ``new`` takes the place of the data directory of an adopted server: what its owner has set stays as it is."""

    # --- jobs (called by the worker, as the server's user)

    def initialize(self, server: Server, data_dir: Path, log: Path) -> None:
        """Make an empty database in the empty ``data_dir``."""

    def begin_backup(self, server: Server, request: BackupRequest) -> BackupSession:
        """Check versions and permissions, then start the tool.

        Raises VersionMismatch, ServerFailed, ConfigurationError; LineageChanged or WalGone when the server cannot go on from the
        parent, or when nothing proves that its history contains the parent.
        """

    def stream(self, server: Server) -> Format:
        """What kind of stream a backup of the server is."""

    def stored(self, server: Server, positions: Positions) -> None:
        """A backup that ends at ``positions`` is in the store: what was kept for it, or before it, may go.

        Raises ServerFailed; the backup is good all the same.
        """

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

    def warnings(self, version: Version, collations: Sequence[Collation]) -> list[str]:
        """What is different on this host from where a backup was taken, so that restored data may not be as it was."""

    def stream_check(self, positions: Positions) -> Check | None:
        """What proves the files in the stream of a backup; nothing where the stream has no checksums of them."""

    def describe(self, files: Mapping[str, bytes], sizes: Mapping[str, int], said: Positions) -> StreamFacts:
        """What a stream that nobody vouches for says of itself: its ``side_files``, and how many bytes of it each file takes.

        ``said`` is what others say of it, where that is all that is known.
        Raises ArtifactCorrupt when they are missing or damaged, VersionMismatch when it is a backup of something else.
        """

    # --- SQL administration (called by the agent)

    def check_new(self, databases: Sequence[DatabaseSpec], users: Sequence[UserSpec]) -> None:
        """Look at names before there is a server. Raises InvalidRequest for databases and users that no server would create."""

    def databases(self, server: Server) -> list[DatabaseSpec]:
        """Databases of users, without the system's own."""

    def create_databases(self, server: Server, databases: Sequence[DatabaseSpec]) -> None:
        """Raises AlreadyExists, InvalidRequest."""

    def drop_database(self, server: Server, name: str) -> None:
        """Raises NotFound."""

    def users(self, server: Server) -> list[UserSpec]:
        """Accounts of users, without the system's and our own."""

    def create_users(self, server: Server, users: Sequence[UserSpec]) -> None:
        """Raises AlreadyExists, InvalidRequest."""

    def drop_user(self, server: Server, name: str, host: str) -> None:
        """Raises NotFound."""

    def change_user(self, server: Server, name: str, host: str, change: UserChange) -> None:
        """Give the account another name, host or password; its rights stay. Raises NotFound, AlreadyExists, InvalidRequest."""

    def grant(self, server: Server, name: str, host: str, databases: Sequence[str]) -> None:
        """Full rights on the databases. Raises NotFound."""

    def revoke(self, server: Server, name: str, host: str, database: str) -> None:
        """Raises NotFound when there is no such grant."""

    def superuser_enabled(self, server: Server) -> bool:
        """Whether the administrator's account of the database can be used from outside."""

    def enable_superuser(self, server: Server, password: str) -> str:
        """Open the administrator's account to the outside with this password, or change the password; the account's name."""

    def disable_superuser(self, server: Server) -> None:
        """Close it again. Raises NotFound when it was not open."""
