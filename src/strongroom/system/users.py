"""OS users: how they are looked up, named, and switched to."""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from strongroom.errors import ConfigurationError


class Owner(NamedTuple):
    """Who owns a file."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class User:
    """An OS user."""

    name: str
    uid: int
    gid: int
    home: str

    @property
    def owner(self) -> Owner:
        """The owner of this user's files."""
        return Owner(self.uid, self.gid)


def find_user(name: str) -> User:
    """The OS user of this name. Raises ConfigurationError if it does not exist."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigurationError(
            f"there is no OS user {name} on this host",
            remedy="Install the database's packages, or set servers_user in [agent].",
        ) from None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)


def find_user_by_id(uid: int) -> User:
    """The OS user with this number. Raises ConfigurationError if the number has no name."""
    try:
        return find_user(pwd.getpwuid(uid).pw_name)
    except KeyError:
        raise ConfigurationError(
            f"there is no OS user with number {uid} on this host", remedy="Add it to the users of this host."
        ) from None


def current_user() -> User:
    """The user that this process runs as. Raises ConfigurationError if it has no name."""
    return find_user_by_id(os.geteuid())


def name_user(uid: int) -> str:
    """The name of the OS user, for messages; ``uid N`` if the number has no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def find_owner(path: Path) -> Owner:
    """The owner of a file. Raises OSError."""
    facts = path.stat()
    return Owner(facts.st_uid, facts.st_gid)


def set_owner(descriptor: int, owner: Owner) -> None:
    """Make this the owner of an open file, if the process may: only root can."""
    if os.geteuid() == 0:
        os.fchown(descriptor, *owner)


def become_user(name: str, group: int | None) -> None:
    """Drop root's privileges for good and become ``name``, in its own group and ``group``. New files are private.

    Raises ConfigurationError if the user does not exist, or if the process runs as neither root nor that user.
    """
    user = find_user(name)
    if os.geteuid() == 0 and user.uid != 0:
        os.setgroups([] if group is None else [group])
        os.setgid(user.gid)
        os.setuid(user.uid)
    if os.geteuid() != user.uid:
        raise ConfigurationError(
            f"the job must run as OS user {name}, but this process runs as {name_user(os.geteuid())}",
            remedy=f"Start the service as root or as {name}.",
        )
    os.environ.update(HOME=user.home, USER=name, LOGNAME=name)
    os.umask(0o077)
