"""HTTP Basic authentication of the users in a file."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import structlog
from starlette.requests import HTTPConnection

from strongroom.errors import ConfigurationError, Forbidden, NotAuthenticated, Unavailable
from strongroom.identity._answers import Answers
from strongroom.identity._origin import refuse_foreign_origin
from strongroom.identity._principal import IMPLIED, Principal
from strongroom.identity._throttle import Throttle
from strongroom.identity._users import NAME, User, UserFile, hash_password, is_password

log = structlog.get_logger()

REMEMBERED = 300.0
"""Seconds for which a correct password is not hashed again. A change of the password takes effect immediately."""
SIDE_BY_SIDE = 2
"""Concurrent password checks: each takes 64 MiB and about 0.1 s."""
USERS_OF_ADDRESS = 10
"""An address may fail this many times as often as a single user from it."""


class BasicAuthentication:
    """The method ``basic``."""

    name = "basic"
    challenge = 'Basic realm="strongroom", charset="UTF-8"'

    def __init__(self, path: Path, *, attempts: int, window: float) -> None:
        """Allow ``attempts`` wrong passwords per user and address within ``window`` seconds.

        Raises ConfigurationError if the user file cannot be used.
        """
        self._file = UserFile(path)
        self._file.users()
        self._of_user = Throttle(attempts, window)
        self._of_address = Throttle(attempts * USERS_OF_ADDRESS, window)
        self._known: Answers[None] = Answers(1000)
        self._key = secrets.token_bytes()
        self._nobody = hash_password(secrets.token_urlsafe())
        self._threads = ThreadPoolExecutor(SIDE_BY_SIDE, thread_name_prefix="password")

    def admit(self, connection: HTTPConnection) -> None:
        """Refuse requests from pages of other sites, because a browser adds the stored password to them."""
        refuse_foreign_origin(connection)

    async def authenticate(self, connection: HTTPConnection, project: str) -> Principal:
        """The user with the role that the file gives it in the project."""
        name, password = _parse_credentials(connection)
        user = self._load_users().get(name)
        await self._check(name, password, user, connection.client.host if connection.client else "")
        if user is None:
            raise _make_wrong_password_error()
        role = user.projects.get(project)
        if role is None:
            raise Forbidden(
                f"user {name} has no role in project {project[:255]}",
                remedy=f"Its projects: {', '.join(sorted(user.projects)) or 'none'}.",
            )
        return Principal(project=project, user=name, roles=IMPLIED[role], everywhere=role == "admin")

    def may_operate(self, connection: HTTPConnection, principal: Principal) -> bool:
        """Administrators."""
        return principal.is_admin

    def _load_users(self) -> dict[str, User]:
        try:
            return self._file.users()
        except ConfigurationError as error:
            log.error("cannot read the user file; all logins fail", reason=error.message)
            raise Unavailable("the service cannot read its user file", remedy="See the log of the service.") from error

    async def _check(self, name: str, password: str, user: User | None, address: str) -> None:
        """Raise NotAuthenticated unless the password is the user's. It takes the same time if the user does not exist."""
        self._of_user.check((name, address))
        hashed = user.password if user else self._nobody
        key = hashlib.blake2b(f"{name}\0{address}\0{hashed}\0{password}".encode(), key=self._key).digest()
        await self._known.get(key, partial(self._verify, name, password, hashed, address))

    async def _verify(self, name: str, password: str, hashed: str, address: str) -> tuple[None, float]:
        # An attempt that is refused for its address counts for the user, too. Otherwise the cache would reveal a correct guess.
        self._of_user.check((name, address))
        attempt = self._of_user.begin((name, address))
        self._of_address.check(address)
        of_address = self._of_address.begin(address)
        right = await asyncio.get_running_loop().run_in_executor(self._threads, is_password, password, hashed)
        if not right:
            log.warning("wrong password", user=name, address=address)
            raise _make_wrong_password_error()
        self._of_user.forgive((name, address), attempt)
        self._of_address.forgive(address, of_address)
        return None, time.monotonic() + REMEMBERED


def _parse_credentials(connection: HTTPConnection) -> tuple[str, str]:
    scheme, _, encoded = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        raise NotAuthenticated("user and password required", remedy="Send them by HTTP Basic authentication.")
    try:
        name, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except ValueError:
        raise NotAuthenticated("the header Authorization is not valid for HTTP Basic authentication") from None
    if not colon or not re.fullmatch(NAME, name):
        raise _make_wrong_password_error()
    return name, password


def _make_wrong_password_error() -> NotAuthenticated:
    return NotAuthenticated("the user or the password is wrong")
