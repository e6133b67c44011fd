"""Swap the server's own entries of a directory outside the data directory; the directory itself, and what else it holds, stay.

The work directories of job J are beside the directory X (``X.new-J``), or inside it (``X/strongroom.new-J``) where X cannot have
siblings on its file system. Which of them exist shows how far a swap has come:

    new                 what is in X is being moved to old
    taken, old          X is empty, and what is in taken is being moved to X
    old                 done
    leaving, old        going back: what is in X is being moved to leaving
    failed, old         going back: what is in old is being moved to X
    failed              gone back

``old`` may be missing in the first row, and then holds nothing. Each step can be done twice, and begins when the one before it is
durable. All this happens while there is no data directory, so that no server can be started on one half.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from strongroom.agent.swap.attributes import copy_attributes
from strongroom.datastores import Place
from strongroom.errors import ConfigurationError, ServerFailed
from strongroom.system.directories import make_directory, open_directory, sync_directory
from strongroom.system.disks import is_mount_point
from strongroom.system.users import User

What = Literal["new", "taken", "old", "leaving", "failed"]
WHATS: tuple[What, ...] = ("new", "taken", "old", "leaving", "failed")


class Outside(BaseModel):
    """A directory outside the data directory, as a swap sees it."""

    model_config = ConfigDict(extra="forbid")

    directory: Path
    entries: list[str]
    """Regular expressions for the whole names of the server's files."""
    inside: bool = False
    """Whether the work directories are in it instead of beside it."""

    def at(self, what: What, job: str) -> Path:
        """A work directory of job ``job``."""
        if self.inside:
            return self.directory / f"strongroom.{what}-{job}"
        return self.directory.with_name(f"{self.directory.name}.{what}-{job}")

    def owns(self, name: str) -> bool:
        """Whether the entry belongs to the server."""
        return any(re.fullmatch(pattern, name) for pattern in self.entries)


def plan(places: Sequence[Place], data_dir: Path, account: User) -> list[Outside]:
    """What a swap has to do outside the data directory. Raises ConfigurationError if that is not possible."""
    found: dict[Path, Outside] = {}
    for place in places:
        if place.directory.is_relative_to(data_dir):
            continue
        known = found.get(place.directory)
        if known is None:
            known = found[place.directory] = Outside(directory=place.directory, entries=[], inside=_inside(place, account))
        if known.inside and not place.nested:
            raise _unmovable(place, "cannot have a directory beside it on its file system")
        known.entries += [pattern for pattern in place.entries if pattern not in known.entries]
    return list(found.values())


def _inside(place: Place, account: User) -> bool:
    """Whether the work directories have to be inside."""
    directory = place.directory
    try:
        facts, above = directory.lstat(), directory.parent.stat()
    except OSError as error:
        raise _unmovable(place, f"cannot be read: {error.strerror}") from error
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != account.uid:
        raise _unmovable(place, f"is not a directory of the OS user {account.name}")
    if not os.access(directory, os.W_OK | os.X_OK):
        raise _unmovable(place, "cannot be written by the agent")
    return not os.access(directory.parent, os.W_OK | os.X_OK) or facts.st_dev != above.st_dev or is_mount_point(directory)


def _unmovable(place: Place, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"{place.directory} ({place.item}) holds files of the server, and {why}: they cannot be moved for a restore in place",
        remedy="Restore to a new instance, or correct the directory and its owner, and run the agent as root.",
    )


def make_staging(outside: Outside, job: str, account: User) -> Path:
    """An empty directory for the files of the restore."""
    staging = outside.at("new", job)
    make_directory(staging, account.owner)
    copy_attributes(outside.directory, staging)
    return staging


def leftovers(directory: Path, jobs: Iterable[str], *whats: What) -> Iterator[Path]:
    """Existing work directories of these jobs, beside a directory and inside it. Other programs may use similar names there."""
    for job in jobs:
        for inside in (False, True):
            place = Outside(directory=directory, entries=[], inside=inside)
            yield from (path for path in (place.at(what, job) for what in whats) if path.is_dir() and not path.is_symlink())


def swap_in(outside: Outside, job: str, account: User) -> None:
    """Move the server's entries to ``old`` and the staged ones into their place. Raises OSError, ServerFailed."""
    new, taken, old = (outside.at(what, job) for what in ("new", "taken", "old"))
    if new.is_dir():
        _make(old, account)
        _move_entries(outside, outside.directory, old, account)
        _rename(new, taken)
    if taken.is_dir():
        _move_entries(outside, taken, outside.directory, account)
        _remove(taken)


def swap_back(outside: Outside, job: str, account: User) -> None:
    """Put the previous entries back. Raises OSError, ServerFailed."""
    new, taken, old, leaving, failed = (outside.at(what, job) for what in ("new", "taken", "old", "leaving", "failed"))
    if not new.is_dir() and not failed.is_dir():  # what was staged is in place, or on its way
        if taken.is_dir():
            _rename(taken, leaving)
        elif old.is_dir() and not leaving.is_dir():
            _make(leaving, account)
        if leaving.is_dir():
            _move_entries(outside, outside.directory, leaving, account)
            _rename(leaving, failed)
    if old.is_dir():
        _move_entries(outside, old, outside.directory, account)
        _remove(old)


def _move_entries(outside: Outside, source: Path, target: Path, account: User) -> None:
    with open_directory(source, account) as from_fd, open_directory(target, account) as to_fd:
        for name in sorted(filter(outside.owns, os.listdir(from_fd))):  # noqa: PTH208 - a descriptor
            _rename_entry(name, from_fd, to_fd, target)
        os.fsync(to_fd)
        os.fsync(from_fd)


def _rename_entry(name: str, from_fd: int, to_fd: int, target: Path) -> None:
    try:
        os.stat(name, dir_fd=to_fd, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(name, name, src_dir_fd=from_fd, dst_dir_fd=to_fd)
    else:
        raise ServerFailed(f"{target / name} is in the way", remedy="Move it away by hand.")


def _make(directory: Path, account: User) -> None:
    make_directory(directory, account.owner)
    sync_directory(directory.parent)


def _rename(source: Path, target: Path) -> None:
    source.rename(target)
    sync_directory(target.parent)


def _remove(directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError as error:
        raise ServerFailed(f"{directory} holds unknown files: {error.strerror}", remedy="Move them away by hand.") from error
    sync_directory(directory.parent)
