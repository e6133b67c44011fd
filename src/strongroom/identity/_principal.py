"""Principals and roles, and the interface of authentication methods."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import SecretStr
from starlette.requests import HTTPConnection

Role = Literal["reader", "member", "admin"]
READER: Role = "reader"
"""May read the resources of the project."""
MEMBER: Role = "member"
"""May also create, change and delete them."""
ADMIN: Role = "admin"
"""May use the resources of all projects, and administer the service."""
IMPLIED: dict[Role, frozenset[Role]] = {
    READER: frozenset({READER}),
    MEMBER: frozenset({MEMBER, READER}),
    ADMIN: frozenset({ADMIN, MEMBER, READER}),
}
"""The roles that each role implies, including itself."""

asker: ContextVar[str] = ContextVar("asker", default="")
"""The user of the current request; empty if the service acts on its own."""


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request: its project, user and roles (including implied ones).

    ``everywhere``: resources of other projects may be addressed, too, by their ids.
    """

    project: str
    user: str
    roles: frozenset[Role]
    everywhere: bool = False
    token: SecretStr | None = None
    """The caller's Keystone token, for requests to Swift."""

    @property
    def is_admin(self) -> bool:
        """Whether the caller may list all projects and see what only administrators see."""
        return ADMIN in self.roles


class Method(Protocol):
    """An authentication method."""

    name: str
    challenge: str
    """The header ``WWW-Authenticate`` of a 401 response."""

    def admit(self, connection: HTTPConnection) -> None:
        """Check a request before authentication, even one that needs no principal. Raises Forbidden."""

    async def authenticate(self, connection: HTTPConnection, project: str) -> Principal:
        """The principal of a request for ``project``.

        Raises NotAuthenticated; Forbidden if the caller has no access to the project; TooManyRequests; Unavailable.
        """

    def may_operate(self, connection: HTTPConnection, principal: Principal) -> bool:
        """Whether the caller may name paths and commands on the host, which the service uses as its own OS user."""


def with_implied(roles: set[Role]) -> frozenset[Role]:
    """The roles and all roles that they imply."""
    return frozenset().union(*(IMPLIED[role] for role in roles))
