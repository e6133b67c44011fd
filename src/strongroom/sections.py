"""Every option of the configuration, declared once: one class per section. ``settings`` loads their values.

They are in separate modules because workers need some sections but never read files or the environment, and importing the
library for that takes longer than a small backup.
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
    """A table of the TOML file. Unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", validate_default=True)


class Service(Section):
    """Where the service listens and keeps its state."""

    data_dir: Path = Field(Path("/var/lib/strongroom"), description="Directory of state, instances and, by default, artifacts.")
    host: str = Field("127.0.0.1", description="Address to listen on. Without authentication, only loopback is allowed.")
    port: int = Field(
        DEFAULT_PORT, ge=0, le=65535, description="Port to listen on. The default is Trove's; 0 selects a free one."
    )
    proxies: list[str] = Field(
        default_factory=list,
        description="Addresses of trusted reverse proxies, whose headers `X-Forwarded-For` and `X-Forwarded-Proto` are honoured.",
    )
    region: str = Field("RegionOne", description="Region that is shown for instances.")
    database_url: SecretStr | None = Field(
        None, description="URL of a PostgreSQL database for the catalog. Default: SQLite in data_dir."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Minimum severity of log messages.")
    log_format: Literal["console", "json"] = Field("console", description="Format of log messages.")


class Identity(Section):
    """Who may use the service."""

    method: Literal["none", "basic", "keystone"] = Field(
        "none",
        description="How users authenticate. none: everyone on this machine is an administrator; basic: users in a file; "
        "keystone: users of OpenStack.",
    )
    user_file: Path | None = Field(
        None, description="basic: the user file, managed with `strongroom user-file`. Default: `users.json` in data_dir."
    )
    attempts: int = Field(
        10, ge=1, description="basic: how many wrong passwords one user may send from one address within `attempts_window`."
    )
    attempts_window: float = Field(300.0, gt=0, description="basic: seconds for which wrong passwords are counted.")
    auth_url: str | None = Field(None, description="keystone: URL of Keystone (`…/v3`).")
    username: str | None = Field(None, description="keystone: the service's user, which must be allowed to validate tokens.")
    password: SecretStr | None = Field(None, description="keystone: password of the service's user.")
    project_name: str = Field("service", description="keystone: project of the service's user.")
    user_domain: str = Field("Default", description="keystone: name of the Keystone domain of the service's user.")
    project_domain: str = Field("Default", description="keystone: name of the Keystone domain of its project.")
    application_credential_id: str | None = Field(
        None, description="keystone: id of an application credential, instead of user, password and project."
    )
    application_credential_secret: SecretStr | None = Field(None, description="keystone: secret of the application credential.")
    cacert: Path | None = Field(None, description="keystone: file with certificates to trust. Default: the system's.")
    insecure: bool = Field(False, description="keystone: do not verify the server's certificate.")
    timeout: float = Field(10.0, gt=0, description="keystone: seconds to wait for a response.")
    token_cache: float = Field(
        30.0,
        ge=0,
        le=3600,
        description="keystone: seconds for which a validated token is cached. The revocation of a token or a role takes effect "
        "within this time.",
    )
    admin_roles: list[str] = Field(["admin"], description="keystone: Keystone's roles that are mapped to `admin`.")
    member_roles: list[str] = Field(["member"], description="keystone: Keystone's roles that are mapped to `member`.")
    reader_roles: list[str] = Field(["reader"], description="keystone: Keystone's roles that are mapped to `reader`.")


class Storage(Section):
    """Where artifacts are stored."""

    driver: Literal["directory", "swift", "s3", "gcs", "azure"] = Field("directory", description="Type of the store.")
    path: Path | None = Field(None, description="directory: path of the store. Default: `store` in data_dir.")
    bucket: str | None = Field(None, description="s3, gcs: bucket; azure: container. It must exist.")
    prefix: str = Field("", description="s3, gcs, azure: folder in the bucket.")
    endpoint: str | None = Field(None, description="s3, azure: URL of the service. Default: the vendor's own.")
    region: str | None = Field(None, description="s3: region of the bucket; swift: region of the endpoint in Keystone's catalog.")
    access_key_id: str | None = Field(None, description="s3: access key; azure: account name.")
    secret_access_key: SecretStr | None = Field(None, description="s3: secret key; azure: account key.")
    credentials_file: Path | None = Field(None, description="gcs: key file of the service account.")
    auth_url: str | None = Field(
        None, description="swift: URL of Keystone (`…/v3`) or of Swift's own authentication (`…/auth/v1.0`)."
    )
    auth_version: Literal["3", "1"] = Field("3", description="swift: 3 for Keystone, 1 for Swift's own authentication.")
    auth: Literal["service", "user"] = Field(
        "service",
        description="swift: which user accesses Swift: `service` (the service's user, configured here) or `user` (the requesting "
        "user, by its token; needs `identity.method` keystone). With `user`, backups are stored in the project's account, and "
        "jobs fail when the token expires.",
    )
    username: str | None = Field(None, description="swift: the service's user.")
    password: SecretStr | None = Field(None, description="swift: password of the service's user.")
    project_name: str | None = Field(None, description="swift, Keystone: project of the service's user.")
    user_domain: str = Field("Default", description="swift: name of the Keystone domain of the service's user.")
    project_domain: str = Field("Default", description="swift: name of the Keystone domain of its project.")
    application_credential_id: str | None = Field(
        None, description="swift: id of an application credential, instead of user, password and project."
    )
    application_credential_secret: SecretStr | None = Field(None, description="swift: secret of the application credential.")
    interface: Literal["public", "internal", "admin"] = Field(
        "public", description="swift: which endpoint of Keystone's catalog to use."
    )
    account: str = Field(
        "service",
        pattern=r"^[A-Za-z0-9_.:-]+$",
        description="swift: account that holds the backups: `service` (that of the service's user), `project` (that of each "
        "project), or the name of an account. The last two need the reseller role (ResellerAdmin).",
    )
    reseller_prefix: str = Field("AUTH_", description="swift: prefix of account names, followed by the id of the project.")
    cacert: Path | None = Field(None, description="swift: file with certificates to trust. Default: the system's.")
    insecure: bool = Field(False, description="swift: do not verify the server's certificate.")
    container: str = Field(
        "database_backups",
        pattern=CONTAINER_PATTERN,
        description="Container of backups if neither the request nor a backup strategy names one.",
    )
    retries: int = Field(
        8,
        ge=0,
        le=20,
        description="How often a failed call to a remote store is retried, after pauses of 1, 2, 4 … 30 s. With the default, "
        "backups survive two minutes without the store.",
    )
    timeout: float = Field(60.0, gt=0, description="Seconds that a call to a remote store may wait for data.")

    @property
    def by_project(self) -> bool:
        """Whether each project has its own store."""
        return self.driver == "swift" and (self.account == "project" or self.by_token)

    @property
    def by_token(self) -> bool:
        """Whether the store is accessed with the token of the requesting user."""
        return self.driver == "swift" and self.auth == "user"

    @property
    def patience(self) -> float:
        """The longest time, in seconds, until a call to a remote store fails, including its retries."""
        if self.driver == "directory":
            return 0.0
        pauses = sum(min(30.0, 2.0**attempt) for attempt in range(self.retries))
        return pauses + (self.retries + 1) * self.timeout

    def of_project(self, project: str, token: SecretStr | None = None) -> Storage:
        """The store of ``project``: this one, unless each project has its own. ``token`` is that of the requesting user."""
        if not self.by_project:
            return self
        mine = self.model_copy(update={"account": f"{self.reseller_prefix}{project}"} | (_NO_SERVICE if self.by_token else {}))
        return (
            TokenStorage(**{name: getattr(mine, name) for name in Storage.model_fields}, token=token) if self.by_token else mine
        )


_NO_SERVICE = dict.fromkeys(("username", "password", "application_credential_id", "application_credential_secret"))
"""Credentials of the service's user. Where a token is used, hosts do not need them and do not get them."""


class TokenStorage(Storage):
    """A store with a token to access it. It is held in memory and sent to workers, but never written to a file."""

    token: SecretStr | None = None


class Artifact(Section):
    """How artifacts are written."""

    codec: Literal["zstd", "gzip"] = Field(
        "zstd", description="Compression. zstd is faster and smaller; Trove can restore only gzip."
    )
    level: int | None = Field(None, ge=1, le=19, description="Compression level. Default: 1 for zstd, 6 for gzip.")
    segment_size: int = Field(32 * 1024**2, ge=64 * 1024, le=1024**3, description="Uncompressed bytes per segment.")
    threads: int = Field(
        0, ge=0, le=256, description="Segments that are processed in parallel. 0: number of cores plus one, limited by `memory`."
    )
    memory: int = Field(
        256 * 1024**2,
        ge=1024**2,
        description="Bytes of memory for the segments of one worker. It limits the number of threads.",
    )


class Encryption(Section):
    """Encryption of artifacts with age: public keys to encrypt, identity files to decrypt."""

    recipients: list[str] = Field(default_factory=list, description="age public keys. Empty: artifacts are not encrypted.")
    identity_files: list[Path] = Field(
        default_factory=list, description="Files with age identities. Only restores and verifications need them."
    )


def _network(value: str) -> str:
    ipaddress.IPv4Network(value)
    return value


def _address(value: str) -> str:
    return str(ipaddress.ip_address(value))


class Agent(Section):
    """How jobs and database servers run on this host."""

    embedded: bool = Field(True, description="serve: whether the service runs an agent, so that this machine is a host, too.")
    name: str = Field(
        "local", pattern=HOST_PATTERN, description="Name of this host. A host that joined with a token has the name in the token."
    )
    address: Annotated[str, AfterValidator(_address)] | None = Field(
        None,
        description="agent: address to listen on. Default: the local address of connections to the service.",
    )
    port: int = Field(AGENT_PORT, ge=0, le=65535, description="agent: port to listen on. 0 selects a free one when it joins.")
    pool: Annotated[str, AfterValidator(_network)] = Field(
        "127.1.0.0/16", description="Network of addresses for instances. Each listens on its own address, at the standard port."
    )
    jobs: int = Field(2, ge=1, le=64, description="How many jobs run at the same time on this host.")
    cancel_grace: float = Field(20.0, gt=0, description="Seconds between SIGINT and SIGKILL when a job is cancelled.")
    start_timeout: float = Field(120.0, gt=0, description="Seconds that a database server may take to start.")
    stop_timeout: float = Field(300.0, gt=0, description="Seconds that a database server may take to stop.")
    stall_timeout: float = Field(
        1800.0,
        gt=0,
        description="Seconds without progress (output, disk reads and writes, processor time) after which a backup tool, a "
        "private server or a transfer between nodes is stopped. A job that uses a store waits at least as long as calls to the "
        "store are retried.",
    )
    restart_limit: int = Field(
        5, ge=0, description="How often a crashed server is restarted within ten minutes before giving up."
    )
    keep_jobs: int = Field(14, ge=1, description="Days for which the directories of finished jobs are kept.")
    wal_limit: int | None = Field(
        None,
        ge=64,
        description="MB of WAL that a PostgreSQL server keeps for the next incremental backup. Beyond this limit WAL is dropped, "
        "and the next backup must be a full one. Default: a tenth of the file system, at most half of its free space.",
    )
    servers_user: str | None = Field(
        None, description="OS user of database servers. Default: mysql or postgres if the agent runs as root, else its own user."
    )


class Hosts(Section):
    """How the service monitors hosts and places instances on them."""

    silent_after: float = Field(
        25.0, ge=1, description="Seconds without an answer after which a host is shown as `silent`: it is unreachable."
    )
    lost_after: float = Field(
        60.0,
        ge=1,
        description="Seconds without an answer after which the jobs of a host fail. If they are still running when the host is "
        "reachable again, they are cancelled.",
    )
    token_life: float = Field(3600.0, ge=1, description="Seconds for which a token of `strongroom host add` is valid.")
    overcommit: float = Field(
        1.5, gt=0, description="Limit for placing new instances: the sum of their flavors' memory, as a multiple of the host's."
    )


class Datastores(Section):
    """Where to search for database programs, in addition to the usual directories."""

    mariadb: list[Path] = Field(
        default_factory=list, description="Directories with mariadbd and mariadb-backup, or with wsrep_sst_*."
    )
    mysql: list[Path] = Field(default_factory=list, description="Directories with mysqld and mysqlbinlog, or xtrabackup.")
    postgresql: list[Path] = Field(default_factory=list, description="Directories with postgres and pg_basebackup.")
    default: str = Field("mariadb", description="Datastore of a new instance if the request names none.")


class Flavor(Section):
    """A size of instances."""

    ram: int = Field(ge=64, description="Memory of the server in MB. It determines the size of the buffer pool and other caches.")
    vcpus: int = Field(1, ge=1, description="Number of cores, only displayed.")
    disk: int = Field(0, ge=0, description="Size of the root disk in GB, only displayed.")
    aliases: list[str] = Field(
        default_factory=list, description="Other ids by which clients may request it, such as those of Nova's flavors."
    )


class Quotas(Section):
    """Limits of each project that has no limits of its own (`openstack database quota update`). -1: no limit."""

    instances: int = Field(-1, ge=-1, description="Number of instances.")
    ram: int = Field(-1, ge=-1, description="Memory of all instances in MB, by their flavors.")
    volumes: int = Field(-1, ge=-1, description="Size of the volumes of all instances in GB.")
    backups: int = Field(-1, ge=-1, description="Number of backups, including failed ones.")


def default_flavors() -> dict[str, Flavor]:
    """The flavors if the configuration has none."""
    return {f"d{n}": Flavor(ram=512 * 2 ** (n - 1), vcpus=max(1, 2 ** (n - 2))) for n in range(1, 6)}
