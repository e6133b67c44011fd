"""A principal, and what a method of authentication is."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, Protocol

from pydantic import SecretStr
from starlette.requests import HTTPConnection

Role = Literal["reader", "member", "admin"]
READER: Role = "reader"
"""Sees the things of the project."""
MEMBER: Role = "member"
"""Works with them."""
ADMIN: Role = "admin"
"""Sees and works with the things of all projects, and with the service itself."""
IMPLIED: dict[Role, frozenset[Role]] = {
    READER: frozenset({READER}),
    MEMBER: frozenset({MEMBER, READER}),
    ADMIN: frozenset({ADMIN, MEMBER, READER}),
}
"""What each role brings along."""

asker: ContextVar[str] = ContextVar("asker", default="")
"""The user whose request is being answered; empty where the service acts by itself."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, for which project, in which roles (with those that they imply).

    ``everywhere``: things of other projects may be named, too, by their ids.
    """

    project: str
    user: str
    roles: frozenset[Role]
    everywhere: bool = False
    token: SecretStr | None = None
    """Of Keystone, to use Swift with."""

    @property
    def is_admin(self) -> bool:
        """Whether lists may be of all projects, and what is for administrators is shown."""
        return ADMIN in self.roles


class Method(Protocol):
    """One way to tell who asks."""

    name: str
    challenge: str
    """The header ``WWW-Authenticate`` of a 401."""

    def admit(self, connection: HTTPConnection) -> None:
        """Look at any request, also one that needs no principal. Raises Forbidden."""

    async def authenticate(self, connection: HTTPConnection, project: str) -> Principal:
        """The principal of a request about ``project``.

        Raises NotAuthenticated; Forbidden when the caller has nothing to do with the project; TooManyRequests; Unavailable.
        """

    def may_operate(self, connection: HTTPConnection, principal: Principal) -> bool:
        """Whether the caller may name paths and commands of the host: the service runs those as its own OS user."""


def with_implied(roles: set[Role]) -> frozenset[Role]:
    """The roles and all that they bring along."""
    return frozenset().union(*(IMPLIED[role] for role in roles))
