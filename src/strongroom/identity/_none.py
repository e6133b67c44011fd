"""No authentication: everyone who can connect to the loopback address is the administrator of all projects.

There are two exceptions. Web pages: a browser on this machine could send their requests, so foreign origins and foreign host
names (DNS rebinding) are refused. Other OS users: they may use the service, but only root and the service's own OS user may
name commands and directories for the service to use.
"""

from __future__ import annotations

import ipaddress
import os
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from strongroom.errors import ConfigurationError, Forbidden
from strongroom.identity._origin import refuse_foreign_origin
from strongroom.identity._peer import peer_uid
from strongroom.identity._principal import ADMIN, IMPLIED, Principal
from strongroom.system.users import name_user

FORWARDED = ("forwarded", "x-forwarded-for")
"""Headers of a proxy. Its OS user is not the caller's, and a server that trusts them replaces the client's address."""


def check_none_allowed(host: str) -> None:
    """Raise ConfigurationError unless ``host``, the listening address, is reachable only from this machine."""
    if not is_loopback(host):
        raise ConfigurationError(
            f"the service cannot listen on {host} without authentication: everyone who can connect would be an administrator",
            remedy="Set identity.method to basic or keystone, or listen on 127.0.0.1 (service.host, --host).",
        )


class NoAuthentication:
    """The method ``none``. ``Principal.everywhere`` is not set, because callers can use the path of any project."""

    name = "none"
    challenge = ""

    def admit(self, connection: HTTPConnection) -> None:
        """Refuse requests that a page of another site could have sent."""
        host = connection.headers.get("host", "")
        if not is_loopback(_hostname(host)):
            raise Forbidden(
                f"the request is for host {host[:100]!r}, but this service accepts only its loopback address",
                remedy="Use http://127.0.0.1 or http://localhost with its port.",
            )
        refuse_foreign_origin(connection)

    async def authenticate(self, connection: HTTPConnection, project: str) -> Principal:
        """The administrator of the project in the path."""
        return Principal(project=project, user=_find_user(connection), roles=IMPLIED[ADMIN])

    def may_operate(self, connection: HTTPConnection, principal: Principal) -> bool:
        """Whether the kernel shows root or the service's OS user as the owner of the connection."""
        server, client = connection.scope.get("server"), connection.client
        if not server or not client or any(name in connection.headers for name in FORWARDED):
            return False
        return peer_uid(tuple(server), (client.host, client.port)) in (0, os.geteuid())


def _find_user(connection: HTTPConnection) -> str:
    """The OS user who requests a change, from the kernel; ``anonymous`` for reads, because the lookup takes time."""
    server, client = connection.scope.get("server"), connection.client
    if connection.scope["method"] in ("GET", "HEAD") or not server or not client:
        return "anonymous"
    if any(name in connection.headers for name in FORWARDED):
        return "anonymous"
    uid = peer_uid(tuple(server), (client.host, client.port))
    if uid is None:
        return "anonymous"
    return name_user(uid)


@lru_cache(256)
def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


@lru_cache(256)
def is_loopback(host: str) -> bool:
    """Whether ``host`` is an address or a name that only this machine can connect to."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
