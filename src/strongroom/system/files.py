"""Small files: written durably and atomically, and read without trust in other users who may write to the same directory."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from strongroom.errors import ConfigurationError
from strongroom.system.directories import sync_directory
from strongroom.system.users import Owner, name_user, set_owner

Model = TypeVar("Model", bound=BaseModel)
MAX_BYTES = 16 * 1024**2
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def write_file(path: Path, data: str | bytes, owner: Owner | None = None, mode: int = 0o600) -> None:
    """Replace the file durably and atomically. Raises ConfigurationError.

    Only root can set an ``owner``; others write files of their own.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.new")  # concurrent writers must not share one
    try:
        write_new(temporary, data, owner, mode)
        temporary.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise _explain(error, path) from error
    finally:
        with contextlib.suppress(OSError):  # the first error is the cause
            temporary.unlink(missing_ok=True)


def create_file(path: Path, data: str | bytes, mode: int = 0o600) -> None:
    """Create the file durably. Raises FileExistsError if there is one already, ConfigurationError."""
    try:
        write_new(path, data, mode=mode)
        sync_directory(path.absolute().parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise _explain(error, path) from error


def write_new(path: Path | str, data: str | bytes, owner: Owner | None = None, mode: int = 0o600, at: int | None = None) -> None:
    """Create a file and make its content, but not its name, durable. Raises OSError, and leaves no part of the file.

    ``at`` is a descriptor of the directory that a relative ``path`` is in.
    """
    descriptor = os.open(path, _CREATE, 0o600, dir_fd=at)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            if owner is not None:
                set_owner(descriptor, owner)
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
    except BaseException:
        os.unlink(path, dir_fd=at)
        raise


def create_log(path: Path, owner: Owner) -> int:
    """Create an empty file (0600) of ``owner``. Returns its descriptor, open for appending. Raises OSError."""
    descriptor = os.open(path, _CREATE | os.O_APPEND, 0o600)
    try:
        set_owner(descriptor, owner)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_bytes(path: Path, limit: int = MAX_BYTES) -> bytes:
    """The content of a regular file. Raises OSError (also for a link), and ValueError for other files and larger ones."""
    descriptor = os.open(path, _READ)
    with os.fdopen(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > limit:
            raise ValueError(f"{path} is not a regular file of at most {limit} bytes")
        return file.read(limit)


def read_text(path: Path, *, limit: int = 64 * 1024) -> str | None:
    """The first ``limit`` bytes of a text file; None if it does not exist. Raises ConfigurationError if it cannot be read."""
    try:
        descriptor = os.open(path, _READ)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {path}: {error.strerror}", remedy=f"Let the OS user {name_user(os.geteuid())} read it."
        ) from error
    with os.fdopen(descriptor, "rb") as file:
        return file.read(limit).decode(errors="replace")


def write_model(path: Path, model: BaseModel) -> None:
    """Replace the file (0600) by the JSON of ``model``, durably and atomically. Raises ConfigurationError."""
    write_file(path, model.model_dump_json(indent=1))


def read_model(path: Path, kind: type[Model]) -> Model:
    """The model in the file. Raises OSError (also for a link or a special file), and ValueError if it is not valid."""
    return kind.model_validate_json(read_bytes(path))


def _explain(error: OSError, path: Path) -> ConfigurationError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = f"Free space on the file system of {path.parent}."
    elif error.errno in (errno.EACCES, errno.EPERM):
        remedy = f"Let the OS user {name_user(os.geteuid())} write to {path.parent}."
    else:
        remedy = f"Check the directory {path.parent}."
    return ConfigurationError(f"cannot write {path}: {error.strerror or error}", remedy=remedy)
