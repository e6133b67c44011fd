"""The user file of the method ``basic``: passwords (as argon2id hashes) and roles by project."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import argon2
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from strongroom.errors import ConfigurationError, InvalidRequest
from strongroom.identity._principal import Role
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

NAME = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
SHORTEST = 8
"""Minimum length of a password."""
MAX_PASSWORD = 1024
MAX_BYTES = 16 * 1024**2

_hasher = argon2.PasswordHasher()

Hash = Annotated[str, StringConstraints(pattern=r"^\$argon2id\$", max_length=512)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
Project = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]


class User(BaseModel):
    """A user. Without a project it may do nothing."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    password: Hash = Field(repr=False)
    projects: dict[Project, Role] = Field(default_factory=dict)


class Users(BaseModel):
    """The content of the user file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    users: dict[Name, User] = Field(default_factory=dict)


def hash_password(password: str) -> str:
    """The hash of a password. Raises InvalidRequest if the password is too short or too long. Takes about 0.1 s."""
    if not SHORTEST <= len(password) <= MAX_PASSWORD:
        raise InvalidRequest(
            f"the password has {len(password)} characters; it must have {SHORTEST} to {MAX_PASSWORD}",
            remedy="Choose another one: a few words are long and easy to remember.",
        )
    return _hasher.hash(password)


def is_password(password: str, hashed: str) -> bool:
    """Whether the password matches the hash. Takes the same time if it does not."""
    try:
        return len(password) <= MAX_PASSWORD and _hasher.verify(hashed, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


class UserFile:
    """The current content of the user file, which is read again after each change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._users = Users()

    def users(self) -> dict[str, User]:
        """Users by name. Raises ConfigurationError, which names the file, if it is missing or not valid."""
        try:
            facts = self._path.stat()
            seen = (facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size)
            if seen != self._seen:
                self._users = _read_users(self._path)
                self._seen = seen
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"the user file {self._path} does not exist",
                remedy=f"Create it: strongroom user-file add NAME --project PROJECT=ROLE --file {self._path}",
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"cannot read the user file {self._path}: {error.strerror}",
                remedy="Make the OS user of the service its owner.",
            ) from error
        return self._users.users


@contextmanager
def edit_users(path: Path) -> Iterator[dict[str, User]]:
    """Users by name, to be changed. At the end the file (mode 0600) is replaced atomically, unless an exception is raised.

    Holds a lock: concurrent changes wait. Raises ConfigurationError, which names the file.
    """
    try:
        directory = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            content = _read_users(path) if path.exists() else Users()
            yield content.users
            # The service, which may run as another user, must still be able to read it.
            write_file(path, content.model_dump_json(indent=2) + "\n", find_owner(path) if path.exists() else None)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"cannot change the user file {path}: {error.strerror}") from error


def _read_users(path: Path) -> Users:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_BYTES:
            raise ConfigurationError(f"the user file {path} is not a regular file of at most {MAX_BYTES} bytes")
        if facts.st_mode & 0o077:
            raise ConfigurationError(
                f"the user file {path} holds password hashes, but other OS users may read or change it",
                remedy=f"chmod 600 {path}",
            )
        content = file.read()
    try:
        return Users.model_validate_json(content)
    except ValidationError as error:
        mistake = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in mistake["loc"])
        raise ConfigurationError(
            f"the user file {path} is not valid: {where}{': ' if where else ''}{mistake['msg']}",
            remedy="Correct it by hand or create a new one; use only `strongroom user-file` to change it.",
        ) from None
