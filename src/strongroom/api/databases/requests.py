"""Databases and users in requests, and their specifications for the agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from strongroom.api.http.fields import Body, Text, require_plain
from strongroom.datastores import DatabaseSpec, UserSpec
from strongroom.errors import InvalidRequest

DatabaseName = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(require_plain)]
UserName = Annotated[str, StringConstraints(min_length=1, max_length=80), AfterValidator(require_plain)]
HostName = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(require_plain)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(require_plain)]


class DatabaseBody(Body):
    """A database to create."""

    name: DatabaseName
    character_set: Text | None = None
    collate: Text | None = None


class DatabaseRef(Body):
    """An existing database."""

    name: DatabaseName


class UserBody(Body):
    """A user to create."""

    name: UserName
    password: Password = Field(repr=False)
    host: HostName | None = None
    databases: list[DatabaseRef] = Field(default_factory=list)


def database_specs(bodies: Sequence[DatabaseBody]) -> list[DatabaseSpec]:
    """Specifications for the agent. Raises InvalidRequest for duplicates."""
    _require_distinct("database", [b.name for b in bodies])
    return [DatabaseSpec(name=b.name, character_set=b.character_set or None, collate=b.collate or None) for b in bodies]


def user_specs(bodies: Sequence[UserBody]) -> list[UserSpec]:
    """Specifications for the agent. Raises InvalidRequest for duplicates."""
    specs = [
        UserSpec(name=b.name, host=b.host or "%", password=b.password, databases=[d.name for d in b.databases]) for b in bodies
    ]
    _require_distinct("user", [f"{s.name}@{s.host}" for s in specs])
    return specs


def parse_user(ref: str, *, hosts: bool) -> tuple[str, str]:
    """Split ``name@host`` at the last @; the default host is ``%``, as in Trove.

    A name alone never selects a user with another host, because a repeated DELETE would then delete a second user. If users
    have no ``hosts``, the whole text is the name.
    """
    if not hosts:
        return ref.removesuffix("@%"), "%"
    name, _, host = ref.rpartition("@")
    return (name, host) if name and host else (ref, "%")


def _require_distinct(noun: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"{noun} {name} appears more than once")
