"""The user's credentials. They are read and sent only when the service requires authentication."""

from __future__ import annotations

import base64
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from strongroom.cli.connection.password import read_secret
from strongroom.errors import InvalidRequest, NotAuthenticated, Unavailable

DEFAULT_URL = "http://127.0.0.1:8779"
DEFAULT_PROJECT = "default"
CLOUD_FILES = (Path("clouds.yaml"), Path("~/.config/openstack/clouds.yaml"), Path("/etc/openstack/clouds.yaml"))
"""Files with clouds of OpenStack's clients; ``secure.yaml`` in the same directory contains secrets."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The response to a challenge; ``project`` is the id of the credentials' project, if any."""

    headers: dict[str, str]
    project: str | None = None


class Credentials:
    """Answers the challenge of a 401. With ``patience``, no password is prompted for."""

    def __init__(
        self,
        username: str | None = None,
        password_file: Path | None = None,
        cloud: str | None = None,
        *,
        patience: float | None = None,
    ) -> None:
        """``patience``: seconds to wait for Keystone."""
        self._username = username
        self._password_file = password_file
        self._cloud = cloud
        self._patience = patience
        self._keystone: Any = None

    def answer(self, challenge: str) -> Answer:
        """Raises NotAuthenticated if credentials are missing, InvalidRequest, or Unavailable if Keystone is unreachable."""
        match challenge.partition(" ")[0].lower():
            case "basic":
                return self._basic()
            case "keystone":
                return self._token()
        raise NotAuthenticated("the service requires an unknown kind of credentials", remedy="Check --url.")

    def _basic(self) -> Answer:
        if not self._username:
            raise NotAuthenticated(
                "the service requires authentication",
                remedy="Pass --username (STRONGROOM_USERNAME). The password is asked for, or read from --auth-password-file.",
            )
        if self._password_file:
            password = read_secret(self._password_file)
        else:
            remedy = "Pass --auth-password-file (STRONGROOM_PASSWORD_FILE)."
            password = _ask_password(self._username, remedy, allowed=self._patience is None)
        encoded = base64.b64encode(f"{self._username}:{password}".encode()).decode()
        return Answer({"Authorization": f"Basic {encoded}"})

    def _token(self) -> Answer:
        from keystoneauth1 import exceptions  # slow to load, and rarely needed

        try:
            if self._keystone is None:
                self._keystone = _open_session(self._cloud, self._patience)
            else:
                self._keystone.invalidate()  # the previous token has become invalid
            headers = {"X-Auth-Token": str(self._keystone.get_token())}
            return Answer(headers, self._keystone.get_project_id())
        except exceptions.Unauthorized as error:
            raise NotAuthenticated("Keystone rejected the user or the password", remedy="Check OS_USERNAME and so on.") from error
        except (exceptions.MissingRequiredOptions, exceptions.NoMatchingPlugin, exceptions.OptionError) as error:
            raise InvalidRequest(
                f"the settings for Keystone are incomplete: {error}", remedy="Check --os-cloud, or the variables OS_*."
            ) from error
        except exceptions.ClientException as error:
            raise Unavailable(
                f"cannot get a token from Keystone: {error}", remedy="Check OS_AUTH_URL, and whether Keystone is running."
            ) from error


def _open_session(cloud: str | None, patience: float | None) -> Any:
    """A session of keystoneauth with the settings of the cloud, or of the environment."""
    from keystoneauth1 import loading, session

    name = cloud or os.environ.get("OS_CLOUD")
    settings = _read_cloud(name) if name else _read_environment()
    if not settings.get("auth_url"):
        raise NotAuthenticated(
            "the service requires a token of OpenStack's Keystone",
            remedy="Pass --os-cloud (from clouds.yaml), or set OS_AUTH_URL, OS_USERNAME, OS_PASSWORD, OS_PROJECT_NAME and so on.",
        )
    loader: Any = loading.get_plugin_loader(settings.get("auth_type", "password"))
    wanted: dict[str, Any] = {}
    for option in loader.get_options():
        for name in (option.dest, *(old.dest for old in option.deprecated)):
            if settings.get(name) is not None:
                wanted.setdefault(option.dest, settings[name])
    if wanted.get("username") and not wanted.get("password") and any(o.dest == "password" for o in loader.get_options()):
        wanted["password"] = _ask_password(wanted["username"], "Set OS_PASSWORD.", allowed=patience is None)
    insecure = settings.get("insecure") in (True, "1", "true", "True") or settings.get("verify") is False
    return session.Session(
        auth=loader.load_from_options(**wanted),
        verify=False if insecure else settings.get("cacert") or True,
        timeout=patience or 60,
    )


def _read_environment() -> dict[str, Any]:
    """``OS_AUTH_URL`` as ``auth_url``, and so on."""
    return {name.removeprefix("OS_").lower(): value for name, value in os.environ.items() if name.startswith("OS_") and value}


def _read_cloud(name: str) -> dict[str, Any]:
    """The settings of a cloud in clouds.yaml, those in its ``auth`` among the others. Raises InvalidRequest."""
    import yaml

    configured = os.environ.get("OS_CLIENT_CONFIG_FILE")
    paths = [Path(configured)] if configured else [path.expanduser() for path in CLOUD_FILES]
    file = next((path for path in paths if path.is_file()), None)
    if file is None:
        raise InvalidRequest(
            f"cloud {name} is unknown: {paths[0]} does not exist", remedy="See OpenStack's documentation of clouds.yaml."
        )
    found: dict[str, Any] = {}
    for path in (file, file.with_name("secure.yaml")):
        if path is file or path.is_file():
            try:
                content = (yaml.safe_load(path.read_text()) or {}).get("clouds", {}).get(name) or {}
                found |= {key.replace("-", "_"): value for key, value in {**content, **content.get("auth", {})}.items()}
            except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
                raise InvalidRequest(f"{path} is not a valid file of clouds") from error
    if not found:
        raise InvalidRequest(f"there is no cloud {name} in {file}")
    return found


def _ask_password(user: str, remedy: str, *, allowed: bool) -> str:
    if not (allowed and sys.stdin.isatty()):
        raise NotAuthenticated(f"a password is required for {user}, and there is no terminal to ask for it", remedy=remedy)
    return str(typer.prompt(f"Password of {user}", hide_input=True, err=True))
