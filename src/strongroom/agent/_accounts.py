"""OS users that servers and workers run as."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

from strongroom.datastores import Datastore
from strongroom.errors import ConfigurationError
from strongroom.settings import Settings


@dataclass(frozen=True, slots=True)
class Account:
    """An OS user."""

    name: str
    uid: int
    gid: int
    home: str


def by_name(name: str) -> Account:
    """Raises ConfigurationError when there is no such user."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(
            f"there is no OS user {name} on this host",
            remedy="Install the database's packages, or set servers_user in [agent].",
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def by_uid(uid: int) -> Account:
    """Raises ConfigurationError when the number has no name."""
    try:
        return by_name(pwd.getpwuid(uid).pw_name)
    except KeyError:
        raise ConfigurationError(f"there is no OS user with number {uid} on this host") from None


def current() -> Account:
    """Who we are."""
    return by_uid(os.geteuid())


def for_servers(settings: Settings, datastore: Datastore) -> Account:
    """The user of the servers that we make: the datastore's own as root, else ourselves. Raises ConfigurationError."""
    if os.geteuid() != 0:
        return current()
    return by_name(settings.agent.servers_user or datastore.default_user)


def for_adopted(data_dir: Path, wanted: str | None) -> Account:
    """The user of an adopted server: as named, else the owner of its data. Raises ConfigurationError when we cannot be it."""
    try:
        account = by_name(wanted) if wanted else by_uid(data_dir.stat().st_uid)
    except OSError as error:
        raise ConfigurationError(
            f"cannot look at the data directory {data_dir}: {error.strerror}",
            remedy="Run the agent as root or as the server's user.",
        ) from error
    if os.geteuid() not in (0, account.uid):
        raise ConfigurationError(
            f"the data directory {data_dir} belongs to {account.name}, and this agent runs as {current().name}",
            remedy="Run the agent as root or as the server's user.",
        )
    return account
