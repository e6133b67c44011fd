"""Directories that a person chooses for parts of a restored server: they must be empty, or are made where its OS user could."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from strongroom.datastores import Server
from strongroom.errors import ConfigurationError, InvalidRequest
from strongroom.system.users import User


def require_usable(directories: Sequence[Path], server: Server, account: User) -> None:
    """Make missing ones; require that each is empty and belongs to the OS user. Raises InvalidRequest, ConfigurationError."""
    for number, directory in enumerate(directories):
        _require_place(directory, server)
        if any(other == directory or other in directory.parents for other in (*directories[:number], *directories[number + 1 :])):
            raise InvalidRequest(
                f"{directory} is given twice, or is inside another one", remedy="Give each part its own directory."
            )
        _require_empty(directory, account)


def _require_place(directory: Path, server: Server) -> None:
    if not directory.is_absolute() or ".." in directory.parts:
        raise InvalidRequest(f"{directory} is not an absolute path", remedy="Give the whole path.")
    real = directory.resolve()
    if real != directory:
        raise InvalidRequest(f"{directory} leads to {real} through links", remedy=f"Give {real}.")
    instances = server.base_dir.parent  # those of other instances as well
    for top in (instances, server.data_dir.parent.resolve(), instances.resolve()):
        if real == top or real.is_relative_to(top) or top.is_relative_to(real):
            raise InvalidRequest(
                f"{directory} is inside {top}, which is for data directories", remedy="Give a directory elsewhere."
            )


def _require_empty(directory: Path, account: User) -> None:
    """A directory is made only where the OS user could make it: the agent may be root."""
    by_hand = f"Make it: mkdir -m 700 {directory}; chown {account.name}: {directory}"
    try:
        if not directory.exists():
            _make(directory, account, by_hand)
        facts = directory.stat()
        filled = any(not path.name.startswith("strongroom.") for path in directory.iterdir())  # made by an attempt that died
    except OSError as error:
        raise ConfigurationError(f"{directory} cannot be used: {error.strerror}", remedy=by_hand) from error
    if facts.st_uid != account.uid:
        raise ConfigurationError(f"{directory} does not belong to the OS user {account.name}", remedy=by_hand)
    if filled:
        raise ConfigurationError(f"{directory} is not empty", remedy="Empty it, or give another directory.")


def _make(directory: Path, account: User, by_hand: str) -> None:
    """The owner of the parent may exchange it for a link at any time, so only the descriptor that was checked is used."""
    above = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(above).st_uid != account.uid:
            raise ConfigurationError(f"{directory} does not exist", remedy=by_hand)
        os.mkdir(directory.name, 0o700, dir_fd=above)
        made = os.open(directory.name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    finally:
        os.close(above)
    try:
        if os.geteuid() == 0:
            os.fchown(made, account.uid, account.gid)
    finally:
        os.close(made)
