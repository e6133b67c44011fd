"""The sections of the configuration, one class each. ``settings`` says where their values come from.

They are apart from it because every worker needs some of them and none needs to read files and the environment: the library
that does takes longer to load than a small backup takes.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

DEFAULT_PORT = 8779
AGENT_PORT = 8780
HOST_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
CONTAINER_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9@%_+=:,.-]{0,254}$"


class Section(BaseModel):
    """A table of the TOML file: unknown keys are mistakes, never ignored."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class Service(Section):
    """Where the service listens and keeps its state."""

    data_dir: Path = Field(Path("/var/lib/strongroom"), description="State, instances and, by default, the artifacts.")
    host: str = Field("127.0.0.1", description="Address to listen on. Without authentication only loopback is accepted.")
    port: int = Field(DEFAULT_PORT, ge=0, le=65535, description="Port to listen on (Trove's by default; 0 takes a free one).")
    proxies: list[str] = Field(
        default_factory=list,
        description="Addresses of proxies in front of the service: whom and by which scheme they serve is taken from their word "
        "(`X-Forwarded-For`, `X-Forwarded-Proto`).",
    )
    region: str = Field("RegionOne", description="Name of the region that instances show.")
    database_url: SecretStr | None = Field(None, description="SQLAlchemy URL of the catalog. Default: SQLite in data_dir.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severity that is logged.")
    log_format: Literal["console", "json"] = Field("console", description="How log lines look.")


class Identity(Section):
    """Who may use the service."""

    method: Literal["none", "basic", "keystone"] = Field(
        "none", description="none: whoever reaches the loopback address; basic: users of a file; keystone: users of OpenStack."
    )
    user_file: Path | None = Field(
        None, description="basic: the file of users, kept by `strongroom user-file`. Default: `users.json` in data_dir."
    )
    attempts: int = Field(10, ge=1, description="basic: wrong passwords of one user from one address within `attempts_window`.")
    attempts_window: float = Field(300.0, gt=0, description="basic: seconds until a wrong password is forgotten.")
    auth_url: str | None = Field(None, description="keystone: its URL (`…/v3`).")
    username: str | None = Field(None, description="keystone: the user of this service, who may validate tokens.")
    password: SecretStr | None = Field(None, description="keystone: its password.")
    project_name: str = Field("service", description="keystone: its project.")
    user_domain: str = Field("Default", description="keystone: name of the domain of the user.")
    project_domain: str = Field("Default", description="keystone: name of the domain of the project.")
    application_credential_id: str | None = Field(None, description="keystone: in the place of user, password and project.")
    application_credential_secret: SecretStr | None = Field(None, description="keystone: the secret that goes with it.")
    cacert: Path | None = Field(None, description="keystone: certificates to trust. Default: those of the system.")
    insecure: bool = Field(False, description="keystone: do not check the server's certificate.")
    timeout: float = Field(10.0, gt=0, description="keystone: seconds that an answer may take.")
    token_cache: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="keystone: seconds for which a token is believed after it was found good; "
        "a token that is revoked, or a role that is taken away, ends at the latest then.",
    )
    admin_roles: list[str] = Field(["admin"], description="keystone: its roles that are our `admin`.")
    member_roles: list[str] = Field(["member"], description="keystone: its roles that are our `member`.")
    reader_roles: list[str] = Field(["reader"], description="keystone: its roles that are our `reader`.")


class Storage(Section):
    """Where artifacts are kept."""

    driver: Literal["directory", "swift", "s3", "gcs", "azure"] = Field("directory", description="Kind of the store.")
    path: Path | None = Field(None, description="directory: the top of the store. Default: `store` in data_dir.")
    bucket: str | None = Field(None, description="s3, gcs: the bucket; azure: the container. It must exist.")
    prefix: str = Field("", description="s3, gcs, azure: a folder inside the bucket.")
    endpoint: str | None = Field(None, description="s3, azure: URL of the service, when it is not the vendor's own.")
    region: str | None = Field(None, description="s3: region of the bucket; swift: region of the endpoint in Keystone's catalog.")
    access_key_id: str | None = Field(None, description="s3: access key; azure: account name.")
    secret_access_key: SecretStr | None = Field(None, description="s3: secret key; azure: account key.")
    credentials_file: Path | None = Field(None, description="gcs: service account key file.")
    auth_url: str | None = Field(None, description="swift: URL of Keystone (`…/v3`), or of Swift's own auth (`…/auth/v1.0`).")
    auth_version: Literal["3", "1"] = Field("3", description="swift: 3 is Keystone, 1 is Swift's own auth.")
    auth: Literal["service", "user"] = Field(
        "service",
        description="swift: with whose rights: `service` (the user of this service, named here), or `user` (the token of whoever "
        "asks, with `identity.method` keystone; backups are in the account of the project, and none outlasts its token).",
    )
    username: str | None = Field(None, description="swift: the user of this service.")
    password: SecretStr | None = Field(None, description="swift: its password.")
    project_name: str | None = Field(None, description="swift: its project, with Keystone.")
    user_domain: str = Field("Default", description="swift: name of the domain of the user.")
    project_domain: str = Field("Default", description="swift: name of the domain of the project.")
    application_credential_id: str | None = Field(None, description="swift: in the place of user, password and project.")
    application_credential_secret: SecretStr | None = Field(None, description="swift: the secret that goes with it.")
    interface: Literal["public", "internal", "admin"] = Field("public", description="swift: which endpoint of the catalog.")
    account: str = Field(
        "service",
        pattern=r"^[A-Za-z0-9_.:-]+$",
        description="swift: whose account holds the backups: `service` (the service user's own), `project` (each project's own), "
        "or the name of an account. The last two need the reseller role (ResellerAdmin).",
    )
    reseller_prefix: str = Field("AUTH_", description="swift: what the account of a project is called before the project's id.")
    cacert: Path | None = Field(None, description="swift: certificates to trust. Default: those of the system.")
    insecure: bool = Field(False, description="swift: do not check the server's certificate.")
    container: str = Field(
        "database_backups",
        pattern=CONTAINER_PATTERN,
        description="Container used when neither request nor strategy names one.",
    )
    retries: int = Field(
        8,
        ge=0,
        le=20,
        description="How often a failed call to a remote store is tried again, after pauses of 1, 2, 4 … 30 s: by default a "
        "store may be away for two minutes.",
    )
    timeout: float = Field(60.0, gt=0, description="Seconds that one call to a remote store may take.")

    @property
    def by_project(self) -> bool:
        """Whether each project has a store of its own."""
        return self.driver == "swift" and (self.account == "project" or self.by_token)

    @property
    def by_token(self) -> bool:
        """Whether the store is used with the tokens of those who ask."""
        return self.driver == "swift" and self.auth == "user"

    @property
    def patience(self) -> float:
        """Seconds in which a call to a remote store may fail, and be tried again, before it has failed."""
        if self.driver == "directory":
            return 0.0
        pauses = sum(min(30.0, 2.0**attempt) for attempt in range(self.retries))
        return pauses + (self.retries + 1) * self.timeout

    def of_project(self, project: str, token: SecretStr | None = None) -> Storage:
        """The store of ``project``: this one, unless each project has its own; with the token of whoever asks, if need be."""
        if not self.by_project:
            return self
        mine = self.model_copy(update={"account": f"{self.reseller_prefix}{project}"} | (_NO_SERVICE if self.by_token else {}))
        return (
            TokenStorage(**{name: getattr(mine, name) for name in Storage.model_fields}, token=token) if self.by_token else mine
        )


_NO_SERVICE = dict.fromkeys(("username", "password", "application_credential_id", "application_credential_secret"))
"""The user of the service, who is not needed where a token is: a host gets to see no more than it has to."""


class TokenStorage(Storage):
    """A store with a token to use it with: in memory and on the way to a worker, never in a file."""

    token: SecretStr | None = None


class Artifact(Section):
    """How the bytes of a backup are written."""

    codec: Literal["zstd", "gzip"] = Field("zstd", description="zstd is fast and small; gzip is what real Trove can restore.")
    level: int | None = Field(None, ge=1, le=19, description="Compression level. Default: 1 for zstd, 6 for gzip.")
    segment_size: int = Field(32 * 1024**2, ge=64 * 1024, le=1024**3, description="Bytes of the raw stream in one segment.")
    threads: int = Field(0, ge=0, le=256, description="Segments worked on side by side. 0: one more than cores, within `memory`.")
    memory: int = Field(
        256 * 1024**2,
        ge=1024**2,
        description="Bytes that the segment pipeline of one worker may hold; bounds the threads.",
    )


class Encryption(Section):
    """age public keys for writing, identity files for reading."""

    recipients: list[str] = Field(default_factory=list, description="age public keys; empty: artifacts are not encrypted.")
    identity_files: list[Path] = Field(
        default_factory=list, description="Files with age identities, needed only where restores and checks run."
    )


def _network(value: str) -> str:
    ipaddress.IPv4Network(value)
    return value


def _address(value: str) -> str:
    return str(ipaddress.ip_address(value))


class Agent(Section):
    """How jobs and database servers are run on this host."""

    embedded: bool = Field(True, description="serve: whether this machine is a database host, too, without `strongroom agent`.")
    name: str = Field("local", pattern=HOST_PATTERN, description="Name of this host. One that has joined has that of its token.")
    address: Annotated[str, AfterValidator(_address)] | None = Field(
        None,
        description="agent: address to listen on. Default: the one from which the control plane is reached.",
    )
    port: int = Field(AGENT_PORT, ge=0, le=65535, description="agent: port to listen on (0 takes a free one, when it joins).")
    pool: Annotated[str, AfterValidator(_network)] = Field(
        "127.1.0.0/16", description="Addresses given to instances; each listens on its own at the standard port."
    )
    jobs: int = Field(2, ge=1, le=64, description="Jobs that may run at a time on this host.")
    cancel_grace: float = Field(20.0, gt=0, description="Seconds between SIGINT and SIGKILL when a job is cancelled.")
    start_timeout: float = Field(120.0, gt=0, description="Seconds a database server may take to answer after its start.")
    stop_timeout: float = Field(300.0, gt=0, description="Seconds a database server may take to stop.")
    stall_timeout: float = Field(
        1800.0,
        gt=0,
        description="Seconds that a backup tool, a private server or a transfer between nodes may go without progress (output, "
        "disk reads and writes, processor time) before it is ended. A job that reads or writes a store waits at least as long as "
        "calls to the store are tried again.",
    )
    restart_limit: int = Field(5, ge=0, description="Restarts of a died server within ten minutes before it is left alone.")
    keep_jobs: int = Field(14, ge=1, description="Days that the directories of finished jobs are kept.")
    wal_limit: int | None = Field(
        None,
        ge=64,
        description="MB of WAL that a PostgreSQL server keeps for the next incremental backup. When it comes to more, it is let "
        "go of, and the next backup has to be a full. Default: a tenth of the file system, at most half of what is free.",
    )
    servers_user: str | None = Field(
        None, description="OS user of database servers. Default: the datastore's own (mysql, postgres) as root, else the caller."
    )


class Hosts(Section):
    """How the control plane looks after the hosts that have an agent."""

    silent_after: float = Field(25.0, ge=1, description="Seconds without an answer after which a host is shown as silent.")
    lost_after: float = Field(
        60.0,
        ge=1,
        description="Seconds without an answer after which the jobs of a host fail. What its agent has gone on with is cancelled "
        "when it is back.",
    )
    token_life: float = Field(3600.0, ge=1, description="Seconds for which the token of `strongroom host add` is good.")
    overcommit: float = Field(
        1.5, gt=0, description="How often the memory of a host may be given to instances, by their flavors, when one is placed."
    )


class Datastores(Section):
    """Where database programs are looked for, beside the usual places."""

    mariadb: list[Path] = Field(
        default_factory=list, description="Directories with mariadbd and mariadb-backup, or with wsrep_sst_*."
    )
    mysql: list[Path] = Field(default_factory=list, description="Directories with mysqld and mysqlbinlog, or xtrabackup.")
    postgresql: list[Path] = Field(default_factory=list, description="Directories with postgres and pg_basebackup.")
    default: str = Field("mariadb", description="Datastore of a new instance that names none.")


class Flavor(Section):
    """A size for instances."""

    ram: int = Field(ge=64, description="Memory of the server in MB: buffer pool and friends are sized to it.")
    vcpus: int = Field(1, ge=1, description="Cores, for information.")
    disk: int = Field(0, ge=0, description="Root disk in GB, for information.")
    aliases: list[str] = Field(
        default_factory=list, description="Other ids that clients send for it, such as those of Nova's flavors."
    )


class Quotas(Section):
    """What a project may have, unless it was given limits of its own (`openstack database quota update`). -1: no limit."""

    instances: int = Field(-1, ge=-1, description="Instances.")
    ram: int = Field(-1, ge=-1, description="MB of memory of all its instances, by their flavors.")
    volumes: int = Field(-1, ge=-1, description="GB of all its instances, by their sizes.")
    backups: int = Field(-1, ge=-1, description="Backups, the failed ones too.")


def default_flavors() -> dict[str, Flavor]:
    """What there is when the configuration names none."""
    return {f"d{n}": Flavor(ram=512 * 2 ** (n - 1), vcpus=max(1, 2 ** (n - 2))) for n in range(1, 6)}
