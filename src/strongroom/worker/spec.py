"""The messages between service, agent and worker: job requests, events, results. All are JSON.

The service sends a ``JobRequest`` to the agent. The agent adds what only it knows (the server, directories) and writes a
``WorkerSpec`` to the worker's stdin. The worker writes events to ``events.jsonl`` and finally ``result.json``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, field_serializer

from strongroom.archive import MAX_AGE, LogLocation, Piece
from strongroom.artifact import ForeignChain, Level, Location, Witness
from strongroom.datastores import BackupKind, Place, Server
from strongroom.datastores.protocol.logs import Start
from strongroom.sections import Artifact as ArtifactSettings
from strongroom.sections import TokenStorage

TOOK_FULL = "A full backup was taken: "
"""The beginning of the ``reason`` of a full backup that a worker took because the parent of an incremental could not be used."""


class Message(BaseModel):
    """Base of all messages."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StorageSpec(TokenStorage):
    """The store with its secrets in plain text. It exists only in requests to the agent and on a worker's stdin."""

    @field_serializer("secret_access_key", "password", "application_credential_secret", "token", when_used="json")
    def _reveal(self, value: SecretStr | None) -> str | None:
        return value.get_secret_value() if value else None


class BackupJob(Message):
    """Take a backup of a server into ``location``."""

    kind: Literal["backup"] = "backup"
    location: Location
    backup_kind: BackupKind
    name: str = ""
    description: str | None = None
    project: str
    instance_name: str = ""
    instance_id: str
    datastore_version: str = Field(description="The series, as in the catalog.")
    parent: Location | None = None
    parent_sha256: str | None = Field(None, description="Hash of the parent's manifest, from the catalog.")
    parent_witness: Witness | None = Field(None, description="Witness of the parent, from the catalog.")
    fall_back_to_full: bool = Field(
        False, description="If the parent cannot be used (lineage changed, manifest missing), take a full backup and say why."
    )
    damaged_pages: Literal["fail", "warn"] = Field("warn", description="Whether a page with a wrong checksum fails the backup.")
    desync: bool = Field(
        False, description="Galera: the cluster does not wait for this node during the backup. The agent undoes it if need be."
    )
    storage: StorageSpec
    artifact: ArtifactSettings
    recipients: list[str] = Field(default_factory=list)
    owner: str = Field("", description="Id of the service, for the intent record: only the owner removes an orphan.")
    container_exists: bool = Field(False, description="Whether the container has to exist: the catalog knows backups in it.")


class LogReplay(Message):
    """The log that a restore applies to the data of the backup."""

    storage: StorageSpec
    log: LogLocation
    pieces: tuple[Piece, ...] = Field(min_length=1)
    start: Start = Field(description="Where the backup is in the log.")
    end: str = Field(min_length=1, description="Position in the last piece up to which the log is applied.")
    raw_size: int = Field(0, ge=0, description="Bytes of the log, for the progress.")


class LogArchiveOptions(Message):
    """What the duty ``log-archive`` needs."""

    log: LogLocation
    storage: StorageSpec
    artifact: ArtifactSettings
    recipients: list[str] = Field(default_factory=list)
    lineage: str = ""
    max_age: float = Field(MAX_AGE, gt=0, description="Seconds that the log waits before it is stored.")


class RestoreJob(Message):
    """Extract and prepare the chain that ends in ``location`` into a new directory beside the server's data directory."""

    kind: Literal["restore"] = "restore"
    location: Location | ForeignChain
    manifest_sha256: str | None = Field(None, description="Hash of the backup's manifest, from the catalog.")
    datastore: str
    storage: StorageSpec
    artifact: ArtifactSettings
    identities: list[SecretStr] = Field(default_factory=list)
    volume_bytes: int | None = Field(None, description="Fail if the data is larger than this.")
    in_place: bool = Field(True, description="Whether the data replaces that of an existing server. Otherwise the server is new.")
    isolated: bool | None = Field(
        None,
        description="Whether the restored server is an isolated copy, which contacts no other server. Default: if not in place.",
    )

    tablespaces: dict[str, Path] = Field(
        default_factory=dict, description="New instance: directories of tablespaces, by their name or location on the source."
    )
    replay: LogReplay | None = Field(None, description="For a restore to a moment after the backup.")

    @field_serializer("identities", when_used="json")
    def _reveal(self, value: list[SecretStr]) -> list[str]:
        return [v.get_secret_value() for v in value]

    @property
    def makes_copy(self) -> bool:
        """Whether the restored server is isolated."""
        return not self.in_place if self.isolated is None else self.isolated


class LinkResult(Message):
    """The result of verifying one backup of a chain."""

    id: str
    container: str = Field("", description="Empty for a backup that another program wrote.")
    target: bool = Field(False, description="Whether it is the backup whose verification was requested.")
    manifest_sha256: str | None = None
    level: Level | None = None
    segments: int = 0
    raw_size: int = 0
    stored_size: int = 0
    files: int | None = None
    tables: int | None = None
    code: str | None = Field(None, description="Code of the error that proves damage; null if there is none.")
    message: str | None = None
    warnings: list[str] = Field(default_factory=list)


class VerifyJob(Message):
    """Read every segment of the backup and of all backups that it is based on.

    With ``prepare``, also restore the chain into a scratch directory, which is deleted afterwards. With ``start``, also start a
    private server on the prepared data that reads every table.
    """

    kind: Literal["verify"] = "verify"
    location: Location | ForeignChain
    manifest_sha256: str | None = Field(None, description="Hash of the backup's manifest, from the catalog.")
    datastore: str
    chain: bool = Field(True, description="Also read the backups that it is based on.")
    quick: bool = Field(False, description="Only compare the sizes of the objects.")
    prepare: bool = False
    start: bool = True
    storage: StorageSpec
    artifact: ArtifactSettings
    identities: list[SecretStr] = Field(default_factory=list)

    @field_serializer("identities", when_used="json")
    def _reveal(self, value: list[SecretStr]) -> list[str]:
        return [v.get_secret_value() for v in value]


class ImportJob(Message):
    """Read backups that another program wrote, check that each is complete, and describe them."""

    kind: Literal["import"] = "import"
    location: ForeignChain
    datastore: str
    storage: StorageSpec


class InitializeJob(Message):
    """Create an empty database in ``target_dir``, a new directory beside the server's data directory, as for a restore."""

    kind: Literal["initialize"] = "initialize"


Job = Annotated[BackupJob | RestoreJob | VerifyJob | ImportJob | InitializeJob, Field(discriminator="kind")]


class JobRequest(Message):
    """Body of ``PUT /jobs/{id}`` at the agent. ``server`` is the id of the instance; None for a verify or an import."""

    server: str | None = None
    job: Job


class WorkerSpec(Message):
    """What the worker reads from stdin."""

    id: str
    job: Job
    server: Server | None = None
    user: str = Field(description="OS user to become before the job begins.")
    programs_places: dict[str, list[Path]] = Field(
        default_factory=dict, description="Directories to search for programs, by datastore."
    )
    work_dir: Path = Field(description="Scratch directory, owned by the user; the agent removes it after the job.")
    target_dir: Path | None = Field(
        None, description="restore, initialize: the new directory, made by the agent, empty, owned by the user."
    )
    places: list[Place] = Field(default_factory=list, description="restore: other directories with files of the server.")
    staging: dict[Path, Path] = Field(
        default_factory=dict, description="restore: an empty directory for the new files of each of these directories."
    )
    cancel_grace: float = 20.0
    stall_timeout: float = 1800.0
    store_gid: int | None = Field(None, description="Group that may write to the directory store, if the worker is not root.")

    @property
    def job_dir(self) -> Path:
        """The directory of events and result: the parent of ``work_dir``."""
        return self.work_dir.parent


class Event(Message):
    """A line of ``events.jsonl``: the progress of the job. Bytes are those of the current phase."""

    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    phase: str
    done: int = Field(0, description="Raw bytes processed in this phase.")
    total: int | None = Field(None, description="Raw bytes expected in this phase; an estimate for a backup.")
    stored: int = Field(0, description="Bytes written to or read from the store in this phase.")
    message: str | None = None


class Failure(Message):
    """An error, as in ``StrongroomError.to_dict``."""

    code: str
    message: str
    remedy: str = ""


class ArchivedSeries(Message):
    """The series that a log archive ends with."""

    number: int = Field(ge=0)
    began: str = Field(max_length=40, description="As in ``archive.Series``.")
    reason: str = Field("", max_length=1000)
    started: int = Field(description="Microseconds since 1970.")
    continues: int | None = Field(None, description="The series that it continues; without it, there is a gap before it.")


class LogArchiveFacts(Message):
    """What the duty ``log-archive`` reports."""

    series: ArchivedSeries | None = Field(None, description="null: nothing was archived yet.")
    segments: int = Field(0, ge=0)
    position: str = ""
    last_time: int | None = Field(None, description="Time of the last transaction that is stored, in microseconds since 1970.")
    complete_until: int | None = Field(None, description="Everything that the server wrote until then is stored.")
    trouble: Failure | None = Field(None, description="Why the archive does not advance.")
    warnings: list[str] = Field(default_factory=list, max_length=20)


class Result(Message):
    """The content of ``result.json``. ``output`` depends on the kind of the job: see ``worker.jobs``."""

    status: Literal["succeeded", "failed", "cancelled"]
    started: AwareDatetime
    finished: AwareDatetime
    failure: Failure | None = None
    output: dict[str, Any] = Field(default_factory=dict)
    max_rss: int = Field(0, description="Peak resident bytes of the worker itself.")


class JobView(Message):
    """The agent's response about a job. ``lost``: there is no lock and no result, so the worker died."""

    id: str
    status: Literal["running", "succeeded", "failed", "cancelled", "lost"]
    event: Event | None = None
    events: int = Field(0, description="Number of events. Pass it as ``after`` to wait for the next one.")
    result: Result | None = None
