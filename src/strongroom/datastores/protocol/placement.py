"""Files of a server outside the top of its data directory: where they are, and how restored files get there.

A restore prepares everything in one directory. If the server keeps some of its files elsewhere, ``lay_out`` moves restored
files to staging directories, one for each outside directory; the agent swaps these together with the data directory.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from pydantic import Field

from strongroom.artifact import Profile
from strongroom.datastores.protocol.servers import Server
from strongroom.datastores.protocol.strict import Strict
from strongroom.errors import ConfigurationError, InvalidRequest
from strongroom.system.directories import sync_directory, sync_tree
from strongroom.system.disks import measure_files, require_space


class Place(Strict):
    """A directory, other than the data directory itself, in which a server keeps some of its files.

    Several places may name the same directory. Only entries that match ``entries`` are ever moved.
    """

    item: str = Field(description="The setting or the link that names it, as in `Profile.outside`.")
    directory: Path = Field(description="Absolute, without links. A directory inside the data directory is swapped with it.")
    entries: list[str] = Field(description="Regular expressions for the whole names of the server's own files and directories.")
    source: str = Field("", description="Where a restore leaves these files, below the data directory; empty: at its top.")
    link: bool = Field(False, description="``source`` is a link to ``directory`` in the data directory.")
    nested: bool = Field(True, description="The server tolerates a directory of Strongroom inside ``directory``.")

    def owns(self, name: str) -> bool:
        """Whether an entry of ``directory`` with this name belongs to the server."""
        return any(re.fullmatch(pattern, name) for pattern in self.entries)


class Placement(Protocol):
    """Finds the files of a server outside its data directory, and lays restored files out in the same way."""

    def places(self, server: Server) -> list[Place]:
        """Find where the server keeps files outside the top of its data directory. Called by the agent; changes nothing.

        Raises ServerFailed or ConfigurationError if the server has to be queried and does not answer: the last answer is used.
        """

    def choose_places(self, server: Server, choices: Mapping[str, Path]) -> list[Place]:
        """Places that a user has chosen for parts of a backup, by name. Called by the agent. Raises InvalidRequest."""

    def prepare(
        self,
        server: Server,
        places: Sequence[Place],
        restored: Path,
        staging: Mapping[Path, Path],
        profile: Profile | None,
    ) -> list[Place]:
        """Prepare a restore into the empty directory ``restored``. Returns the places for a backup with this profile.

        If possible, files that belong elsewhere are later restored directly to the staging directories. Raises InvalidRequest.
        """

    def lay_out(self, server: Server, places: Sequence[Place], restored: Path, staging: Mapping[Path, Path]) -> list[str]:
        """Move files that belong elsewhere from the prepared directory ``restored`` to the staging directories, durably.

        ``staging`` maps the directory of each place that lies outside the data directory to an empty directory on the same file
        system. Called by the worker as the server's user, before the server is stopped. Returns sentences for users.
        Raises NoSpace, ConfigurationError.
        """


class EntryPlacement:
    """Lays files out by their places only. A driver adds ``places``."""

    def places(self, server: Server) -> list[Place]:
        """None."""
        return []

    def choose_places(self, server: Server, choices: Mapping[str, Path]) -> list[Place]:
        """See ``Placement``."""
        if choices:
            raise InvalidRequest(f"{server.datastore} has no tablespaces that can be placed", remedy="Leave --tablespace out.")
        return []

    def prepare(
        self,
        server: Server,
        places: Sequence[Place],
        restored: Path,
        staging: Mapping[Path, Path],
        profile: Profile | None,
    ) -> list[Place]:
        """See ``Placement``."""
        return list(places)

    def lay_out(self, server: Server, places: Sequence[Place], restored: Path, staging: Mapping[Path, Path]) -> list[str]:
        """See ``Placement``."""
        for place in places:
            move_to_place(server, place, restored, staging)
        return describe_places(server, places)


def is_inside(directory: Path, data_dir: Path) -> bool:
    """Whether the directory is inside the data directory, and is swapped with it."""
    return directory.is_relative_to(data_dir)


def describe_places(server: Server, places: Sequence[Place]) -> list[str]:
    """A sentence for users about the outside directories."""
    items: dict[Path, list[str]] = {}
    for place in places:
        if not is_inside(place.directory, server.data_dir) and place.item not in items.setdefault(place.directory, []):
            items[place.directory].append(place.item)
    named = ", ".join(f"{directory} ({', '.join(names)})" for directory, names in items.items())
    return [f"the server's files in {named} become previous data and are replaced together with the data"] if named else []


def move_to_place(server: Server, place: Place, restored: Path, staging: Mapping[Path, Path]) -> None:
    """Move the entries of one place, and create its link. Raises NoSpace, ConfigurationError."""
    source = restored / place.source
    if is_inside(place.directory, server.data_dir):
        target = restored / place.directory.relative_to(server.data_dir)
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
    elif place.directory in staging:
        target = staging[place.directory]
    else:
        raise ConfigurationError(f"there is no staging directory for {place.directory} ({place.item})", remedy="Restore again.")
    if source.is_dir() and not source.is_symlink() and not source.samefile(target):
        _move([entry for entry in sorted(source.iterdir()) if place.owns(entry.name)], target)
    if place.link and source.is_dir() and not source.is_symlink():
        if left := sorted(entry.name for entry in source.iterdir()):
            raise ConfigurationError(
                f"the restored {place.source} holds {', '.join(left[:5])}, which does not belong in {place.directory}",
                remedy="Restore to a new instance.",
            )
        source.rmdir()
        source.symlink_to(place.directory)
    sync_tree(target)
    sync_directory(source.parent if place.link else source)


def _move(entries: Sequence[Path], target: Path) -> None:
    """Rename entries, or copy them to another file system if all of them fit there."""
    if entries and entries[0].parent.stat().st_dev != target.stat().st_dev:
        require_space(target, sum(measure_files(e) if e.is_dir() else e.lstat().st_size for e in entries))
    for entry in entries:
        try:
            entry.rename(target / entry.name)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.move(entry, target / entry.name)


def outside_directory(value: str | None, data_dir: Path) -> Path | None:
    """The directory that a setting names; none if it is the data directory itself. Links are resolved."""
    if not value:
        return None
    found = Path(os.path.realpath(data_dir / value))
    return None if found == Path(os.path.realpath(data_dir)) else found
