"""Databases and users of a server, by SQL. Called by the agent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import Field

from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.protocol.strict import Strict


class DatabaseSpec(Strict):
    """A database (schema) of a server."""

    name: str
    character_set: str | None = None
    collate: str | None = None


class UserSpec(Strict):
    """An account of a server. ``password`` is never returned."""

    name: str
    host: str = "%"
    password: str | None = Field(None, repr=False)
    databases: list[str] = Field(default_factory=list)


class UserChange(Strict):
    """Changes of a user; what is none stays as it is."""

    name: str | None = None
    host: str | None = None
    password: str | None = Field(None, repr=False)


class Databases(Protocol):
    """The databases of a server's users, without the system's own."""

    def check(self, specs: Sequence[DatabaseSpec]) -> None:
        """Look at names before there is a server. Raises InvalidRequest for databases that no server would create."""

    def list_all(self, server: Server) -> list[DatabaseSpec]:
        """All databases."""

    def create(self, server: Server, specs: Sequence[DatabaseSpec]) -> None:
        """Raises AlreadyExists, InvalidRequest."""

    def drop(self, server: Server, name: str) -> None:
        """Raises NotFound."""


class Users(Protocol):
    """The users of a server, without those of the system and of Strongroom."""

    def check(self, specs: Sequence[UserSpec]) -> None:
        """Look at names before there is a server. Raises InvalidRequest for users that no server would create."""

    def list_all(self, server: Server) -> list[UserSpec]:
        """All users, with the databases that they have rights on."""

    def create(self, server: Server, specs: Sequence[UserSpec]) -> None:
        """Raises AlreadyExists, InvalidRequest."""

    def drop(self, server: Server, name: str, host: str) -> None:
        """Raises NotFound."""

    def change(self, server: Server, name: str, host: str, change: UserChange) -> None:
        """Change the name, host or password; the rights stay. Raises NotFound, AlreadyExists, InvalidRequest."""

    def grant(self, server: Server, name: str, host: str, databases: Sequence[str]) -> None:
        """Give full rights on the databases. Raises NotFound."""

    def revoke(self, server: Server, name: str, host: str, database: str) -> None:
        """Raises NotFound if there is no such grant."""


class Superuser(Protocol):
    """The administrator of a server, which Trove calls root."""

    def is_enabled(self, server: Server) -> bool:
        """Whether the administrator can log in from other hosts."""

    def enable(self, server: Server, password: str) -> str:
        """Let the administrator log in from other hosts with this password, or change the password. Returns the user's name."""

    def disable(self, server: Server) -> None:
        """Raises NotFound if it is not enabled."""


@dataclass(frozen=True, slots=True)
class Administration:
    """SQL administration of a datastore."""

    databases: Databases
    users: Users
    superuser: Superuser
    users_have_hosts: bool = True
    """A user is a name and a host from which it may connect."""
