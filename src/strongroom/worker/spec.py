"""What crosses the line between control plane, agent and worker: job requests, events, results. All JSON.

The control plane sends a ``JobRequest`` to the agent; the agent adds what it alone knows (the server, directories) and hands a
``WorkerSpec`` to the worker on its stdin. Events are lines of ``events.jsonl``; the end is ``result.json``.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, SecretStr, field_serializer

from strongroom.artifact import ForeignChain, Level, Location, Witness
from strongroom.datastores import BackupKind, Place, Server
from strongroom.sections import Artifact as ArtifactSettings
from strongroom.sections import TokenStorage


class Message(BaseModel):
    """Base of everything that crosses the line."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class StorageSpec(TokenStorage):
    """The store with its secrets in clear: exists on the wire to the agent and on a worker's stdin, nowhere else."""

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
    parent_sha256: str | None = Field(None, description="Of the parent's manifest, as the catalog knows it.")
    parent_witness: Witness | None = Field(None, description="Of the parent, as the catalog knows it.")
    fall_back_to_full: bool = Field(
        False, description="When the parent cannot be used (lineage changed, manifest gone), take a full and say why."
    )
    damaged_pages: Literal["fail", "warn"] = Field("warn", description="Whether pages with wrong checksums fail the backup.")
    desync: bool = Field(
        False, description="Galera: the cluster does not wait for this node meanwhile. Undone by the agent, too."
    )
    storage: StorageSpec
    artifact: ArtifactSettings
    recipients: list[str] = Field(default_factory=list)
    owner: str = Field("", description="Id of the service: signs the intent record, so that only its owner sweeps an orphan.")


class RestoreJob(Message):
    """Extract and prepare the chain that ends in ``location`` into a new directory beside the server's data directory."""

    kind: Literal["restore"] = "restore"
    location: Location | ForeignChain
    manifest_sha256: str | None = Field(None, description="Of the backup's manifest, as the catalog knows it.")
    datastore: str
    storage: StorageSpec
    artifact: ArtifactSettings
    identities: list[SecretStr] = Field(default_factory=list)
    volume_bytes: int | None = Field(None, description="Refuse when the data is larger than this.")
    in_place: bool = Field(True, description="The data replaces that of a server which exists; else the server is new.")
    isolated: bool | None = Field(
        None,
        description="A copy of the server it was taken from: it contacts nobody. Default: when not in place.",
    )

    tablespaces: dict[str, Path] = Field(
        default_factory=dict, description="To a new instance: directories for tablespaces, by name or location at the source."
    )

    @field_serializer("identities", when_used="json")
    def _reveal(self, value: list[SecretStr]) -> list[str]:
        return [v.get_secret_value() for v in value]

    @property
    def makes_copy(self) -> bool:
        """Whether the restored server is isolated."""
        return not self.in_place if self.isolated is None else self.isolated


class LinkResult(Message):
    """What a verify job found out about one backup of the chain."""

    id: str
    container: str = Field("", description="Empty for what another program wrote.")
    target: bool = Field(False, description="It is the backup that was to be verified.")
    manifest_sha256: str | None = None
    level: Level | None = None
    segments: int = 0
    raw_size: int = 0
    stored_size: int = 0
    files: int | None = None
    tables: int | None = None
    code: str | None = Field(None, description="Of the error that proves damage; null: it is good.")
    message: str | None = None
    warnings: list[str] = Field(default_factory=list)


class VerifyJob(Message):
    """Read every segment of the backup and of all that it is based on; with ``prepare`` restore the chain into a scratch
    directory and drop that.

    With ``start``, too, a private server is started on the prepared data and reads every table.
    """

    kind: Literal["verify"] = "verify"
    location: Location | ForeignChain
    manifest_sha256: str | None = Field(None, description="Of the backup's manifest, as the catalog knows it.")
    datastore: str
    chain: bool = Field(True, description="Also read the backups that it is based on.")
    quick: bool = Field(False, description="Only compare the sizes of all objects.")
    prepare: bool = False
    start: bool = True
    storage: StorageSpec
    artifact: ArtifactSettings
    identities: list[SecretStr] = Field(default_factory=list)

    @field_serializer("identities", when_used="json")
    def _reveal(self, value: list[SecretStr]) -> list[str]:
        return [v.get_secret_value() for v in value]


class ImportJob(Message):
    """Read backups that another program wrote, prove that each is whole, and say what they are."""

    kind: Literal["import"] = "import"
    location: ForeignChain
    datastore: str
    storage: StorageSpec


class InitializeJob(Message):
    """Make an empty database in ``target_dir``, a new directory beside the server's data directory, as a restore does."""

    kind: Literal["initialize"] = "initialize"


Job = Annotated[BackupJob | RestoreJob | VerifyJob | ImportJob | InitializeJob, Field(discriminator="kind")]


class JobRequest(Message):
    """Body of ``PUT /jobs/{id}`` at the agent. ``server`` is the id of the instance, none for a verify or an import."""

    server: str | None = None
    job: Job


class WorkerSpec(Message):
    """What the worker reads on stdin."""

    id: str
    job: Job
    server: Server | None = None
    user: str = Field(description="OS user to become before anything is done.")
    programs_places: dict[str, list[Path]] = Field(default_factory=dict, description="Where to look for programs, by datastore.")
    work_dir: Path = Field(description="Scratch directory, owned by the user; the agent removes it after the job.")
    target_dir: Path | None = Field(
        None, description="restore, initialize: the new directory, made by the agent, empty, owned by the user."
    )
    places: list[Place] = Field(default_factory=list, description="restore: where the server keeps a part of its files.")
    staging: dict[Path, Path] = Field(
        default_factory=dict, description="restore: the empty directory for the files of each outside directory."
    )
    cancel_grace: float = 20.0
    stall_timeout: float = 1800.0
    store_gid: int | None = Field(None, description="Group that may write the directory store, when the worker is not root.")

    @property
    def job_dir(self) -> Path:
        """Where events and result go: the directory that holds ``work_dir``."""
        return self.work_dir.parent


class Event(Message):
    """A line of ``events.jsonl``: where the job is. Bytes are of the current phase."""

    at: AwareDatetime = Field(default_factory=lambda: datetime.now(UTC))
    phase: str
    done: int = Field(0, description="Raw bytes done in this phase.")
    total: int | None = Field(None, description="Raw bytes expected in this phase, an estimate for a backup.")
    stored: int = Field(0, description="Bytes written to or read from the store in this phase.")
    message: str | None = None


class Failure(Message):
    """An error, as ``StrongroomError.to_dict`` gives it."""

    code: str
    message: str
    remedy: str = ""


class Result(Message):
    """Content of ``result.json``. ``output`` is by kind of job: see ``worker.jobs``."""

    status: Literal["succeeded", "failed", "cancelled"]
    started: AwareDatetime
    finished: AwareDatetime
    failure: Failure | None = None
    output: dict[str, Any] = Field(default_factory=dict)
    max_rss: int = Field(0, description="Peak resident bytes of the worker itself.")


class JobView(Message):
    """Answer of the agent about a job. ``lost``: no lock and no result, the worker died."""

    id: str
    status: Literal["running", "succeeded", "failed", "cancelled", "lost"]
    event: Event | None = None
    events: int = Field(0, description="How many events there are; pass it as ``after`` to wait for the next.")
    result: Result | None = None
