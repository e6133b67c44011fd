"""No authentication: whoever reaches the loopback address is the administrator of any project.

Two kinds of callers are not meant by that. Web pages: a browser would send their requests here, so foreign origins and foreign
host names (DNS rebinding) are refused. Other OS users: they may use the service, but only its own user and root may make it run
commands or touch directories that they name.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from strongroom.errors import ConfigurationError, Forbidden
from strongroom.identity._peer import peer_uid
from strongroom.identity._principal import ADMIN, OPERATOR, Principal

FORWARDED = ("forwarded", "x-forwarded-for")
"""Headers of a proxy: its OS user says nothing of who asks, and a server that believes them gives us another address."""


def check_none_allowed(host: str) -> None:
    """Raise ConfigurationError unless ``host``, the listening address, can be reached from this machine alone."""
    if not _is_loopback(host):
        raise ConfigurationError(
            f"without authentication the service may not listen on {host}: everybody who reaches it would be its administrator",
            remedy="Listen on 127.0.0.1 (service.host, --host).",
        )


class NoAuthentication:
    """The method ``none``."""

    name = "none"

    def admit(self, connection: HTTPConnection) -> None:
        """Refuse what a web page of somebody else could have sent."""
        host = connection.headers.get("host", "")
        if not _is_loopback(_hostname(host)):
            raise Forbidden(
                f"the request is for host {host[:100]!r}, but this service answers only to its loopback address",
                remedy="Use http://127.0.0.1 or http://localhost with its port.",
            )
        origin = connection.headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            raise Forbidden(
                f"a page of {origin[:100]!r} may not use this service", remedy="Use it from its own pages or a program."
            )

    def authenticate(self, connection: HTTPConnection, project: str) -> Principal:
        """The administrator of the project that the path names."""
        roles = {ADMIN}
        server, client = connection.scope.get("server"), connection.client
        forwarded = any(name in connection.headers for name in FORWARDED)
        if server and client and not forwarded and peer_uid(tuple(server), (client.host, client.port)) in (0, os.geteuid()):
            roles.add(OPERATOR)
        return Principal(project=project, user="anonymous", roles=frozenset(roles))


def _hostname(netloc: str) -> str:
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return ""


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
