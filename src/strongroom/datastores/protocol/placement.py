"""Files of a server that lie outside the top of its data directory: where they are, and how restored ones get there.

A restore prepares everything in one directory. Where the server keeps a part of its files elsewhere, ``lay_out`` moves restored
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
    """A directory, other than the data directory itself, in which a server keeps a part of its files.

    Several places may name the same directory. Only entries that match ``entries`` are ever moved: the rest is somebody else's.
    """

    item: str = Field(description="The setting or the link that names it, as in ``Profile.outside``.")
    directory: Path = Field(description="Absolute, without links. It may lie below the data directory: nothing is swapped then.")
    entries: list[str] = Field(description="Regular expressions for the whole names of the server's own files and directories.")
    source: str = Field("", description="Where a restore leaves these files, below the data directory; empty: at its top.")
    link: bool = Field(False, description="``source`` is a link to ``directory`` in the data directory.")
    nested: bool = Field(True, description="A directory of ours inside ``directory`` does not disturb the server.")

    def owns(self, name: str) -> bool:
        """An entry of ``directory`` with this name is the server's."""
        return any(re.fullmatch(pattern, name) for pattern in self.entries)


class Placement(Protocol):
    """Knows which files of a server lie elsewhere, and lays restored files out in the same way."""

    def places(self, server: Server) -> list[Place]:
        """Where the server keeps files outside the top of its data directory. Called by the agent; changes nothing.

        Raises ServerFailed or ConfigurationError when the server has to be asked and does not answer: the last answer counts.
        """

    def chosen(self, server: Server, choices: Mapping[str, Path]) -> list[Place]:
        """Places that a person has chosen for parts of a backup, by name. Called by the agent. Raises InvalidRequest."""

    def prepare(
        self,
        server: Server,
        places: Sequence[Place],
        restored: Path,
        staging: Mapping[Path, Path],
        profile: Profile | None,
    ) -> list[Place]:
        """Before the restore into the empty directory ``restored``: the places, as they are with a backup of this profile.

        Where it can be done, what belongs elsewhere is written to the staging directories at once. Raises InvalidRequest.
        """

    def lay_out(self, server: Server, places: Sequence[Place], restored: Path, staging: Mapping[Path, Path]) -> list[str]:
        """Move what belongs elsewhere from the prepared directory ``restored`` to the staging directories, durably.

        ``staging`` maps the directory of each place that lies outside the data directory to an empty directory on the same file
        system. Called by the worker as the server's user, before the old server is touched. Returns sentences for people.
        Raises NoSpace, ConfigurationError.
        """


class EntryPlacement:
    """A ``lay_out`` that goes by the places alone. A driver adds ``places``."""

    def places(self, server: Server) -> list[Place]:
        """None."""
        return []

    def chosen(self, server: Server, choices: Mapping[str, Path]) -> list[Place]:
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


def below(directory: Path, data_dir: Path) -> bool:
    """The directory is a part of the data directory, and is swapped with it."""
    return directory.is_relative_to(data_dir)


def describe_places(server: Server, places: Sequence[Place]) -> list[str]:
    """A sentence for people about the outside directories."""
    items: dict[Path, list[str]] = {}
    for place in places:
        if not below(place.directory, server.data_dir) and place.item not in items.setdefault(place.directory, []):
            items[place.directory].append(place.item)
    named = ", ".join(f"{directory} ({', '.join(names)})" for directory, names in items.items())
    return [f"the server's files in {named} are put aside and replaced together with the data"] if named else []


def move_to_place(server: Server, place: Place, restored: Path, staging: Mapping[Path, Path]) -> None:
    """Move the entries of one place, and put the link. Raises NoSpace, ConfigurationError."""
    source = restored / place.source
    if below(place.directory, server.data_dir):
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
    """By renaming; to another file system by a copy, when all of it fits there."""
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
    """The directory that a setting names, when that is not the data directory itself. Links are resolved."""
    if not value:
        return None
    found = Path(os.path.realpath(data_dir / value))
    return None if found == Path(os.path.realpath(data_dir)) else found
