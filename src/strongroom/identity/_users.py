"""The file of users of the method ``basic``: their passwords (as argon2id hashes), and their roles by project."""

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

NAME = r"^[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}$"
SHORTEST = 8
"""Characters that a password must have."""
MAX_PASSWORD = 1024
MAX_BYTES = 16 * 1024**2

_hasher = argon2.PasswordHasher()

Hash = Annotated[str, StringConstraints(pattern=r"^\$argon2id\$", max_length=512)]
Name = Annotated[str, StringConstraints(pattern=NAME)]
Project = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]


class User(BaseModel):
    """A user: no project, nothing to do."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    password: Hash = Field(repr=False)
    projects: dict[Project, Role] = Field(default_factory=dict)


class Users(BaseModel):
    """The content of the file."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    users: dict[Name, User] = Field(default_factory=dict)


def hash_password(password: str) -> str:
    """The password as it may be kept. Raises InvalidRequest when it is too short or too long. Takes some 0.1 s."""
    if not SHORTEST <= len(password) <= MAX_PASSWORD:
        raise InvalidRequest(
            f"the password has {len(password)} characters; it must have {SHORTEST} to {MAX_PASSWORD}",
            remedy="Take a longer one: a few words are easy to remember.",
        )
    return _hasher.hash(password)


def is_password(password: str, hashed: str) -> bool:
    """Whether it is the one. Takes as long when it is not."""
    try:
        return len(password) <= MAX_PASSWORD and _hasher.verify(hashed, password)
    except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
        return False


class UserFile:
    """The file as it is now: read again whenever it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, ...] = ()
        self._users = Users()

    def users(self) -> dict[str, User]:
        """Users by name. Raises ConfigurationError that names the file: with a broken one nobody comes in."""
        try:
            facts = self._path.stat()
            seen = (facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size)
            if seen != self._seen:
                self._users = _read(self._path)
                self._seen = seen
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"there is no file of users at {self._path}",
                remedy=f"Make one: strongroom user-file add NAME --project PROJECT=ROLE --file {self._path}",
            ) from error
        except OSError as error:
            raise ConfigurationError(
                f"cannot read the file of users {self._path}: {error.strerror}",
                remedy="It must belong to the OS user of the service.",
            ) from error
        return self._users.users


@contextmanager
def edit_users(path: Path) -> Iterator[dict[str, User]]:
    """Users by name, to be changed: the file (0600) is replaced at the end, whole or not at all, unless an exception is raised.

    Others who do the same wait meanwhile. Raises ConfigurationError that names the file.
    """
    try:
        directory = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(directory, fcntl.LOCK_EX)
            content = _read(path) if path.exists() else Users()
            yield content.users
            _write(path, content, directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"cannot change the file of users {path}: {error.strerror}") from error


def _read(path: Path) -> Users:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > MAX_BYTES:
            raise ConfigurationError(f"{path} is not a plain file of at most {MAX_BYTES} bytes")
        if facts.st_mode & 0o077:
            raise ConfigurationError(
                f"others may read or change the file of users {path}, in which the hashes of passwords are",
                remedy=f"chmod 600 {path}",
            )
        content = file.read()
    try:
        return Users.model_validate_json(content)
    except ValidationError as error:
        mistake = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in mistake["loc"])
        raise ConfigurationError(
            f"the file of users {path} is not valid: {where}{': ' if where else ''}{mistake['msg']}",
            remedy="Change it with `strongroom user-file` only; mend it by hand, or make it anew.",
        ) from None


def _write(path: Path, content: Users, directory: int) -> None:
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        if path.exists() and os.geteuid() == 0:
            owner = path.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)  # the service, which may run as another user, must go on reading it
        file.write(content.model_dump_json(indent=2) + "\n")
        file.flush()
        os.fsync(descriptor)
    temporary.rename(path)
    os.fsync(directory)
