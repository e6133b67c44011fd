"""Authentication by tokens of OpenStack's Keystone."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import requests
import structlog
from keystoneauth1 import exceptions, session
from keystoneauth1.identity import v3
from pydantic import SecretStr
from starlette.requests import HTTPConnection

from strongroom.errors import ConfigurationError, Forbidden, NotAuthenticated, Unavailable
from strongroom.identity._answers import Answers
from strongroom.identity._principal import ADMIN, MEMBER, READER, Principal, Role, with_implied
from strongroom.sections import Identity

log = structlog.get_logger()

TOKEN = re.compile(r"[\x21-\x7e]{8,16384}")
TOKENS = 10_000
"""Tokens in the cache."""
SIDE_BY_SIDE = 8
"""Concurrent requests to Keystone."""
REST = 1.0
"""Seconds without a request to Keystone after one failed, so that waiting callers do not time out one after the other."""


@dataclass(frozen=True, slots=True)
class Token:
    """A validated token. ``project`` is None if it is scoped to a domain or the system, or not at all."""

    project: str | None
    user: str
    roles: frozenset[Role]


class KeystoneAuthentication:
    """The method ``keystone``. A revoked token is refused within ``identity.token_cache`` seconds."""

    name = "keystone"

    def __init__(self, settings: Identity) -> None:
        """Opens no connection. Raises ConfigurationError, which names the missing option."""
        self._url = _build_url(settings)
        self.challenge = f'Keystone uri="{self._url}"'
        self._session = _open_session(settings, self._url)
        self._cache = settings.token_cache
        self._roles = _list_role_names(settings)
        self._tokens: Answers[Token] = Answers(TOKENS)
        self._threads = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="keystone")
        self._logging_in = threading.Lock()
        self._rest_until = 0.0

    def admit(self, connection: HTTPConnection) -> None:
        """Accept any request: a browser does not add a token automatically."""

    async def authenticate(self, connection: HTTPConnection, project: str) -> Principal:
        """The user of the token, which must be scoped to the project."""
        token = connection.headers.get("x-auth-token", "")
        if not token:
            raise NotAuthenticated("Keystone token required", remedy="Send it in the header X-Auth-Token.")
        if not TOKEN.fullmatch(token):
            raise _make_invalid_token_error()
        key = hashlib.sha256(token.encode()).digest()  # the cache holds no tokens
        found = await self._tokens.get(key, partial(self._validate, token))
        if found.project is None:
            raise Forbidden(
                "the token is not scoped to a project", remedy="Set OS_PROJECT_NAME or OS_PROJECT_ID and get a new token."
            )
        if found.project != project:
            raise Forbidden(
                "the token is for another project than the one in the path of the request",
                remedy=f"Use the path /v1.0/{found.project}, or a token for the project in the path.",
            )
        return Principal(
            project=project, user=found.user, roles=found.roles, everywhere=ADMIN in found.roles, token=SecretStr(token)
        )

    def may_operate(self, connection: HTTPConnection, principal: Principal) -> bool:
        """Administrators."""
        return principal.is_admin

    async def _validate(self, token: str) -> tuple[Token, float]:
        began = time.monotonic()
        body = await asyncio.get_running_loop().run_in_executor(self._threads, self._fetch_token, token)
        left = (datetime.fromisoformat(body["expires_at"]) - datetime.now(UTC)).total_seconds()
        if left <= 0:
            raise _make_invalid_token_error()
        return self._parse_token(body), began + min(self._cache, left)

    def _fetch_token(self, token: str) -> Mapping[str, Any]:
        """Keystone's description of the token. Raises NotAuthenticated, Unavailable."""
        try:
            try:
                reply = self._request_token(token)
            except exceptions.ConnectFailure:
                reply = self._request_token(token)  # Keystone may have closed the kept-alive connection
            body: Mapping[str, Any] = reply.json()["token"]
            datetime.fromisoformat(body["expires_at"])
        except (exceptions.NotFound, exceptions.BadRequest):
            raise _make_invalid_token_error() from None
        except (exceptions.Unauthorized, exceptions.Forbidden) as error:
            log.error("Keystone refuses the service's own credentials", reason=_shorten(error))
            raise Unavailable(
                "Keystone does not allow this service to validate tokens",
                remedy="An administrator must check username, password and project_name in [identity], and that user's role.",
            ) from error
        except (exceptions.ClientException, requests.RequestException, ValueError, LookupError, TypeError) as error:
            if isinstance(error, exceptions.ConnectionError):
                self._rest_until = time.monotonic() + REST
            log.warning("Keystone is unreachable or its response is not valid", url=self._url, reason=_shorten(error))
            raise self._make_unavailable() from error
        return body

    def _request_token(self, token: str) -> requests.Response:
        with self._logging_in:
            if time.monotonic() < self._rest_until:
                raise self._make_unavailable()
            self._session.get_token()
        return self._session.get(f"{self._url}/auth/tokens?nocatalog", headers={"X-Subject-Token": token})

    def _parse_token(self, body: Mapping[str, Any]) -> Token:
        names = {str(role["name"]).lower() for role in body.get("roles", [])}
        roles: set[Role] = {role for role, known in self._roles.items() if names & known}
        project = body.get("project")
        return Token(str(project["id"]) if project else None, str(body["user"]["id"]), with_implied(roles))

    def _make_unavailable(self) -> Unavailable:
        return Unavailable(
            f"cannot check the token: Keystone at {self._url} does not answer",
            remedy="Try again when Keystone is available. Running jobs are not affected.",
        )


def _open_session(settings: Identity, url: str) -> session.Session:
    auth: Any
    if settings.application_credential_id and settings.application_credential_secret:
        auth = v3.ApplicationCredential(
            auth_url=url,
            application_credential_id=settings.application_credential_id,
            application_credential_secret=settings.application_credential_secret.get_secret_value(),
        )
    elif settings.username and settings.password:
        auth = v3.Password(
            auth_url=url,
            username=settings.username,
            password=settings.password.get_secret_value(),
            project_name=settings.project_name,
            user_domain_name=settings.user_domain,
            project_domain_name=settings.project_domain,
        )
    else:
        raise ConfigurationError(
            "identity.username and identity.password are not set, and method keystone needs them",
            remedy="Name a service user that may validate tokens, or an application credential of one.",
        )
    return session.Session(auth=auth, verify=_find_certificates(settings), timeout=settings.timeout)


def _find_certificates(settings: Identity) -> bool | str:
    """The argument ``verify`` of ``requests``. Prefers the system's certificates to its bundled ones."""
    if settings.insecure:
        return False
    if settings.cacert:
        return str(settings.cacert)
    system = ssl.get_default_verify_paths().cafile
    return system if system and Path(system).exists() else True


def _build_url(settings: Identity) -> str:
    if not settings.auth_url:
        raise ConfigurationError(
            "identity.auth_url is not set, and method keystone needs it",
            remedy="Set it to the URL of Keystone, such as https://keystone.example.org/v3.",
        )
    url = settings.auth_url.rstrip("/")
    return url if url.endswith("/v3") else f"{url}/v3"


def _list_role_names(settings: Identity) -> dict[Role, set[str]]:
    """Keystone's names of each role, in lower case: Keystone ignores case."""
    names: list[tuple[Role, list[str]]] = [
        (ADMIN, settings.admin_roles),
        (MEMBER, settings.member_roles),
        (READER, settings.reader_roles),
    ]
    return {role: {name.lower() for name in known} for role, known in names}


def _make_invalid_token_error() -> NotAuthenticated:
    return NotAuthenticated("the token is invalid or has expired", remedy="Get a new one from Keystone.")


def _shorten(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
