"""Databases and users in requests, and what they become for the agent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from strongroom.api.http.fields import Body, Text, plain
from strongroom.datastores import DatabaseSpec, UserSpec
from strongroom.errors import InvalidRequest

DatabaseName = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(plain)]
UserName = Annotated[str, StringConstraints(min_length=1, max_length=80), AfterValidator(plain)]
HostName = Annotated[str, StringConstraints(min_length=1, max_length=255), AfterValidator(plain)]
Password = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(plain)]


class DatabaseBody(Body):
    """A database to create."""

    name: DatabaseName
    character_set: Text | None = None
    collate: Text | None = None


class DatabaseRef(Body):
    """A database that there is."""

    name: DatabaseName


class UserBody(Body):
    """A user to create."""

    name: UserName
    password: Password = Field(repr=False)
    host: HostName | None = None
    databases: list[DatabaseRef] = Field(default_factory=list)


def database_specs(bodies: Sequence[DatabaseBody]) -> list[DatabaseSpec]:
    """For the agent. Raises InvalidRequest when one is named twice."""
    _refuse_twice("database", [b.name for b in bodies])
    return [DatabaseSpec(name=b.name, character_set=b.character_set or None, collate=b.collate or None) for b in bodies]


def user_specs(bodies: Sequence[UserBody]) -> list[UserSpec]:
    """For the agent. Raises InvalidRequest when one is named twice."""
    specs = [
        UserSpec(name=b.name, host=b.host or "%", password=b.password, databases=[d.name for d in b.databases]) for b in bodies
    ]
    _refuse_twice("user", [f"{s.name}@{s.host}" for s in specs])
    return specs


def parse_user(ref: str, *, hosts: bool) -> tuple[str, str]:
    """Name and host of ``name@host``, where the host is what follows the last @; without one it is ``%``, as in Trove.

    A name alone never means the user of another host: a DELETE that is repeated would take a second user. Where users have no
    ``hosts``, all is the name.
    """
    if not hosts:
        return ref.removesuffix("@%"), "%"
    name, _, host = ref.rpartition("@")
    return (name, host) if name and host else (ref, "%")


def _refuse_twice(noun: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"{noun} {name} is named more than once")
