"""The section ``[storage]`` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from strongroom.sections.section import CONTAINER_PATTERN, Section


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
