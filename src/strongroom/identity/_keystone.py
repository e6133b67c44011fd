"""OpenStack's Keystone tells who a token belongs to."""

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
"""Remembered at a time."""
SIDE_BY_SIDE = 8
"""Questions to Keystone at a time."""
REST = 1.0
"""Seconds for which Keystone is not asked again after it did not answer: those who wait in line need not all find out."""


@dataclass(frozen=True, slots=True)
class Token:
    """What Keystone says of a token; ``project`` None: it is for a domain, the system, or nothing."""

    project: str | None
    user: str
    roles: frozenset[Role]


class KeystoneAuthentication:
    """The method ``keystone``. A token that was revoked is refused after ``identity.token_cache`` seconds at the latest."""

    name = "keystone"

    def __init__(self, settings: Identity) -> None:
        """Contacts nobody. Raises ConfigurationError that names the missing option."""
        self._url = _v3(settings)
        self.challenge = f'Keystone uri="{self._url}"'
        self._session = _session(settings, self._url)
        self._cache = settings.token_cache
        self._roles = _names(settings)
        self._tokens: Answers[Token] = Answers(TOKENS)
        self._threads = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="keystone")
        self._logging_in = threading.Lock()
        self._rest_until = 0.0

    def admit(self, connection: HTTPConnection) -> None:
        """Anybody: no browser adds a token by itself."""

    async def authenticate(self, connection: HTTPConnection, project: str) -> Principal:
        """The user of the token, which must be for the project."""
        token = connection.headers.get("x-auth-token", "")
        if not token:
            raise NotAuthenticated("this service wants a token of Keystone", remedy="Send it in the header X-Auth-Token.")
        if not TOKEN.fullmatch(token):
            raise _invalid()
        key = hashlib.sha256(token.encode()).digest()  # so that no token stays in memory for this
        found = await self._tokens.get(key, partial(self._validate, token))
        if found.project is None:
            raise Forbidden("the token is for no project", remedy="Get one that is: set OS_PROJECT_NAME or OS_PROJECT_ID.")
        if found.project != project:
            raise Forbidden(
                "the token is for another project than the path of the request",
                remedy=f"Use the path /v1.0/{found.project}, or a token for the other project.",
            )
        return Principal(
            project=project, user=found.user, roles=found.roles, everywhere=ADMIN in found.roles, token=SecretStr(token)
        )

    def may_operate(self, connection: HTTPConnection, principal: Principal) -> bool:
        """Administrators."""
        return principal.is_admin

    async def _validate(self, token: str) -> tuple[Token, float]:
        began = time.monotonic()
        body = await asyncio.get_running_loop().run_in_executor(self._threads, self._ask, token)
        left = (datetime.fromisoformat(body["expires_at"]) - datetime.now(UTC)).total_seconds()
        if left <= 0:
            raise _invalid()
        return self._understand(body), began + min(self._cache, left)

    def _ask(self, token: str) -> Mapping[str, Any]:
        """The token as Keystone describes it. Raises NotAuthenticated, Unavailable."""
        try:
            try:
                reply = self._get(token)
            except exceptions.ConnectFailure:
                reply = self._get(token)  # Keystone may have closed a connection that was kept
            body: Mapping[str, Any] = reply.json()["token"]
            datetime.fromisoformat(body["expires_at"])
        except (exceptions.NotFound, exceptions.BadRequest):
            raise _invalid() from None
        except (exceptions.Unauthorized, exceptions.Forbidden) as error:
            log.error("Keystone refuses the service itself", reason=_text(error))
            raise Unavailable(
                "Keystone does not let this service ask about tokens",
                remedy="The operator must check username, password, project_name and the role of the service user in [identity].",
            ) from error
        except (exceptions.ClientException, requests.RequestException, ValueError, LookupError, TypeError) as error:
            if isinstance(error, exceptions.ConnectionError):
                self._rest_until = time.monotonic() + REST
            log.warning("Keystone does not answer as it should", url=self._url, reason=_text(error))
            raise self._away() from error
        return body

    def _get(self, token: str) -> requests.Response:
        with self._logging_in:
            if time.monotonic() < self._rest_until:
                raise self._away()
            self._session.get_token()
        return self._session.get(f"{self._url}/auth/tokens?nocatalog", headers={"X-Subject-Token": token})

    def _understand(self, body: Mapping[str, Any]) -> Token:
        names = {str(role["name"]).lower() for role in body.get("roles", [])}
        roles: set[Role] = {role for role, known in self._roles.items() if names & known}
        project = body.get("project")
        return Token(str(project["id"]) if project else None, str(body["user"]["id"]), with_implied(roles))

    def _away(self) -> Unavailable:
        return Unavailable(
            f"Keystone at {self._url} does not answer, so nobody can be let in",
            remedy="Try again when it is back. Jobs that run are not affected.",
        )


def _session(settings: Identity, url: str) -> session.Session:
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
    return session.Session(auth=auth, verify=_trusted(settings), timeout=settings.timeout)


def _trusted(settings: Identity) -> bool | str:
    """Certificates as ``requests`` wants them: the system's before those that it brings along."""
    if settings.insecure:
        return False
    if settings.cacert:
        return str(settings.cacert)
    system = ssl.get_default_verify_paths().cafile
    return system if system and Path(system).exists() else True


def _v3(settings: Identity) -> str:
    if not settings.auth_url:
        raise ConfigurationError(
            "identity.auth_url is not set, and method keystone needs it",
            remedy="It is Keystone's URL, such as https://keystone.example.org/v3.",
        )
    url = settings.auth_url.rstrip("/")
    return url if url.endswith("/v3") else f"{url}/v3"


def _names(settings: Identity) -> dict[Role, set[str]]:
    """Keystone's names of each role; they have no upper and lower case."""
    names: list[tuple[Role, list[str]]] = [
        (ADMIN, settings.admin_roles),
        (MEMBER, settings.member_roles),
        (READER, settings.reader_roles),
    ]
    return {role: {name.lower() for name in known} for role, known in names}


def _invalid() -> NotAuthenticated:
    return NotAuthenticated("the token is not valid, or not any more", remedy="Get a new one from Keystone.")


def _text(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
