"""The bodies of requests about instances."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, IPvAnyNetwork, StringConstraints, model_validator

from strongroom.api.databases.requests import DatabaseBody, UserBody
from strongroom.api.http.fields import Body, FlavorRef, Gigabytes, Moment, Name, Ref, Text, require_plain


class Volume(Body):
    """Size of the volume in GB."""

    nullable = frozenset({"type"})

    size: Gigabytes
    type: Text | None = None


class DatastoreChoice(Body):
    """Names or ids; ``version`` is a series (10.11) or a full version (10.11.19)."""

    type: Ref = ""
    version: Ref = ""
    version_number: Ref = ""


class Nic(Body):
    """A network. Stored and shown, but instances get their address from the pool of their host."""

    model_config = ConfigDict(extra="forbid")

    network_id: UUID | None = None
    net_id: UUID | None = Field(None, alias="net-id")
    subnet_id: UUID | None = None
    ip_address: IPv4Address | None = None

    @model_validator(mode="after")
    def _placed(self) -> Nic:
        if self.ip_address and not self.subnet_id:
            raise ValueError("ip_address needs subnet_id")
        if self.network_id and self.net_id and self.network_id != self.net_id:
            raise ValueError("network_id and net-id mean the same and must not differ")
        if not (self.network_id or self.net_id or self.subnet_id):
            raise ValueError("needs a network_id or a subnet_id")
        return self


DirectoryPath = Annotated[str, Field(pattern=r"^/[^\x00\n]*$", max_length=4096)]


class RestorePoint(Body):
    """The backup to restore: id or unique name."""

    backupRef: Ref


class InstanceRestorePoint(Body):
    """What is restored to one instance: a backup, or the past of an instance."""

    backupRef: Ref = Field("", description="The backup: id or unique name.")
    instance: Ref = Field("", description="Extension: the instance whose past is restored: id or unique name.")
    target: Moment = Field(
        "", description="Extension, with `instance`: latest, a time with a zone, lsn:X, gtid:X, before-gtid:X or point:NAME."
    )
    tablespaces: dict[Annotated[str, Field(min_length=1, max_length=4096)], DirectoryPath] = Field(
        default_factory=dict,
        max_length=100,
        description="Extension: directories for tablespaces of a PostgreSQL backup, by name or by directory at the source; for "
        "administrators, and for new instances only.",
    )

    @model_validator(mode="after")
    def _one(self) -> InstanceRestorePoint:
        if bool(self.backupRef) == bool(self.instance) or bool(self.instance) != bool(self.target):
            raise ValueError("needs either backupRef, or instance and target")
        return self


def _without_host(value: Any) -> Any:
    """Convert ``10.0.0.5/24`` to ``10.0.0.0/24``, as Horizon and Trove do."""
    try:
        return str(ip_network(value, strict=False)) if isinstance(value, str) else value
    except ValueError:
        return value


Network = Annotated[IPvAnyNetwork, BeforeValidator(_without_host)]


class AccessRequest(Body):
    """Who may reach the instance from outside. Stored and shown; the service manages no firewall."""

    model_config = ConfigDict(extra="forbid")

    is_public: bool = Field(False, strict=True)
    allowed_cidrs: list[Network] = Field(default_factory=list, max_length=1000)

    @model_validator(mode="after")
    def _distinct(self) -> AccessRequest:
        if len(set(self.allowed_cidrs)) < len(self.allowed_cidrs):
            raise ValueError("allowed_cidrs contains a duplicate")
        return self


def _absolute(path: Path) -> Path:
    if not path.is_absolute() or "\0" in str(path):
        raise ValueError("must be an absolute path")
    return path


Argument = Annotated[str, StringConstraints(max_length=4096), AfterValidator(require_plain)]
HostPath = Annotated[Path, AfterValidator(_absolute)]


class Adopt(Body):
    """A running server to adopt: how to connect to it, and how to stop and start it."""

    model_config = ConfigDict(extra="forbid")

    socket: HostPath | None = None
    address: Ref | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    data_dir: HostPath | None = None
    defaults_file: HostPath | None = None
    credentials_file: HostPath | None = None
    start_command: list[Argument] = Field(default_factory=list)
    stop_command: list[Argument] = Field(default_factory=list)
    user: Ref | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Adopt:
        if self.socket is None and self.address is None:
            raise ValueError("needs socket or address to connect to the server")
        return self


class NewInstance(Body):
    """An instance to create: only the name is required. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    flavorRef: FlavorRef = ""
    volume: Volume | None = None
    datastore: DatastoreChoice = DatastoreChoice()
    nics: list[Nic] = Field(default_factory=list, max_length=1)
    restorePoint: InstanceRestorePoint | None = None
    databases: list[DatabaseBody] = Field(default_factory=list)
    users: list[UserBody] = Field(default_factory=list)
    access: AccessRequest = AccessRequest()
    availability_zone: Text = ""
    region_name: Text = ""
    configuration: Any = None
    configuration_id: Any = None
    replica_of: Any = None
    slave_of: Any = None
    replica_count: Any = None
    locality: Any = None
    modules: Any = None
    host: Ref | None = Field(None, description="Extension: its host; administrators only.")
    adopt: Adopt | None = Field(None, description="Extension: adopt a running server instead of creating one.")


class CreateInstance(Body):
    """Body of a create."""

    instance: NewInstance


class Changes(Body):
    """What may be changed."""

    model_config = ConfigDict(extra="forbid")
    nullable = frozenset({"configuration", "replica_of", "slave_of"})

    name: Name = ""
    protected: bool | None = Field(None, description="Extension: whether it is protected from deletion.")
    configuration: Any = None
    datastore_version: Any = None
    replica_of: Any = None
    slave_of: Any = None
    access: AccessRequest = AccessRequest()


class UpdateInstance(Body):
    """Body of an update."""

    instance: Changes


class NewVolume(Body):
    """Size of the volume in GB."""

    size: Gigabytes


class Resize(Body):
    """Exactly one action."""

    volume: NewVolume | None = Field(None, description="Must be larger than the current size.")
    flavorRef: FlavorRef = Field("", description="Restarts the server with the memory of another flavor.")

    @model_validator(mode="after")
    def _one(self) -> Resize:
        if (self.volume is None) == (not self.flavorRef):
            raise ValueError("must name either a volume or a flavorRef")
        return self


class InstanceAction(Body):
    """Exactly one action. ``restore``, ``start``, ``stop``, ``discard_old`` and ``activate`` are extensions."""

    model_config = ConfigDict(extra="allow")

    resize: Resize | None = None
    reset_status: dict[str, Any] = Field(
        default_factory=dict, description="Abandon its current task; running backups fail. Administrators only."
    )
    restart: dict[str, Any] = Field(default_factory=dict)
    start: dict[str, Any] = Field(default_factory=dict)
    stop: dict[str, Any] = Field(default_factory=dict)
    discard_old: dict[str, Any] = Field(default_factory=dict, description="Delete the previous data that restores kept.")
    activate: dict[str, Any] = Field(
        default_factory=dict, description="Enable events, replication and workers of an isolated copy; restarts it."
    )
    restore: InstanceRestorePoint | None = Field(None, description="Restore in place; the previous data is kept.")
