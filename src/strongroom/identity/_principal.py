"""A principal, and what a method of authentication is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from starlette.requests import HTTPConnection

ADMIN = "admin"
"""Sees all projects."""
OPERATOR = "operator"
"""May name paths and commands of the host: the service runs those as its own OS user."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, for which project, in which roles."""

    project: str
    user: str
    roles: frozenset[str]

    @property
    def is_admin(self) -> bool:
        """Whether the rows of other projects may be seen."""
        return ADMIN in self.roles

    @property
    def is_operator(self) -> bool:
        """Whether the service may be told to run commands of the host, as adopting a server does."""
        return OPERATOR in self.roles


class Method(Protocol):
    """One way to tell who asks."""

    name: str

    def admit(self, connection: HTTPConnection) -> None:
        """Look at any request, also one that needs no principal. Raises Forbidden."""

    def authenticate(self, connection: HTTPConnection, project: str) -> Principal:
        """The principal of a request about ``project``. Raises NotAuthenticated, Forbidden."""
