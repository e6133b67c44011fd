"""The section ``[identity]`` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from strongroom.sections.section import Section


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
