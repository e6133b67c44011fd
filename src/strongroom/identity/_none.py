"""No authentication: whoever reaches the loopback address is the administrator of any project.

Two kinds of callers are not meant by that. Web pages: a browser would send their requests here, so foreign origins and foreign
host names (DNS rebinding) are refused. Other OS users: they may use the service, but only its own user and root may make it run
commands or touch directories that they name.
"""

from __future__ import annotations

import ipaddress
import os
import pwd
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from strongroom.errors import ConfigurationError, Forbidden
from strongroom.identity._origin import refuse_foreign_origin
from strongroom.identity._peer import peer_uid
from strongroom.identity._principal import ADMIN, IMPLIED, Principal

FORWARDED = ("forwarded", "x-forwarded-for")
"""Headers of a proxy: its OS user says nothing of who asks, and a server that believes them gives us another address."""


def check_none_allowed(host: str) -> None:
    """Raise ConfigurationError unless ``host``, the listening address, can be reached from this machine alone."""
    if not is_loopback(host):
        raise ConfigurationError(
            f"without authentication the service may not listen on {host}: everybody who reaches it would be its administrator",
            remedy="Choose identity.method basic or keystone, or listen on 127.0.0.1 (service.host, --host).",
        )


class NoAuthentication:
    """The method ``none``. Nobody needs to reach into another project: its path can be used as well."""

    name = "none"
    challenge = ""

    def admit(self, connection: HTTPConnection) -> None:
        """Refuse what a web page of somebody else could have sent."""
        host = connection.headers.get("host", "")
        if not is_loopback(_hostname(host)):
            raise Forbidden(
                f"the request is for host {host[:100]!r}, but this service answers only to its loopback address",
                remedy="Use http://127.0.0.1 or http://localhost with its port.",
            )
        refuse_foreign_origin(connection)

    async def authenticate(self, connection: HTTPConnection, project: str) -> Principal:
        """The administrator of the project that the path names."""
        return Principal(project=project, user=_user_of(connection), roles=IMPLIED[ADMIN])

    def may_operate(self, connection: HTTPConnection, principal: Principal) -> bool:
        """Only root and the OS user of the service, whom the kernel tells."""
        server, client = connection.scope.get("server"), connection.client
        if not server or not client or any(name in connection.headers for name in FORWARDED):
            return False
        return peer_uid(tuple(server), (client.host, client.port)) in (0, os.geteuid())


def _user_of(connection: HTTPConnection) -> str:
    """The OS user who asks for a change, as the kernel tells; ``anonymous`` for those who only look: to find out takes time."""
    server, client = connection.scope.get("server"), connection.client
    if connection.scope["method"] in ("GET", "HEAD") or not server or not client:
        return "anonymous"
    if any(name in connection.headers for name in FORWARDED):
        return "anonymous"
    uid = peer_uid(tuple(server), (client.host, client.port))
    if uid is None:
        return "anonymous"
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


@lru_cache(256)
def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address or name that only this machine reaches."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
