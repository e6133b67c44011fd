"""The files of a PostgreSQL server outside its data directory: the targets of links in the data directory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from strongroom.artifact import Profile
from strongroom.datastores.postgresql.files import tablespaces
from strongroom.datastores.postgresql.files.tablespaces import FOLDER
from strongroom.datastores.protocol.placement import EntryPlacement, Place
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import InvalidRequest
from strongroom.system.directories import sync_directory, sync_tree

WAL = "pg_wal"
_OF_WAL = [
    r"[0-9A-F]{24}(?:\.partial)?",
    r"[0-9A-F]{24}\.[0-9A-F]{8}\.backup",
    r"[0-9A-F]{8}\.history",
    r"archive_status",
    r"summaries",
    r"xlogtemp\.\d+",
    r"RECOVERY(?:XLOG|HISTORY)",
]


_CHOSEN = "pg_tblspc/chosen"
"""``source`` of a place that a user has chosen, until the tablespace's oid is known from the backup."""


class ServerPlacement(EntryPlacement):
    """See ``datastores.Placement``. Reads the data directory only: no server has to run."""

    def places(self, server: Server) -> list[Place]:
        """The directories of tablespaces, and of the WAL if it is outside the data directory."""
        link = server.data_dir / WAL
        found = []
        if link.is_symlink():
            found.append(Place(item=WAL, directory=Path(os.path.realpath(link)), entries=_OF_WAL, source=WAL, link=True))
        with suppress(FileNotFoundError, NotADirectoryError):
            for space in sorted((server.data_dir / FOLDER).iterdir()):
                if space.is_symlink() and space.name.isdigit():
                    source = f"{FOLDER}/{space.name}"
                    found.append(_make_place(server, source, Path(os.path.realpath(space)), source))
        return found

    def choose_places(self, server: Server, choices: Mapping[str, Path]) -> list[Place]:
        """The places that a user chose for tablespaces, by name or by location at the source."""
        return [_make_place(server, name, directory, _CHOSEN) for name, directory in choices.items()]

    def prepare(
        self,
        server: Server,
        places: Sequence[Place],
        restored: Path,
        staging: Mapping[Path, Path],
        profile: Profile | None,
    ) -> list[Place]:
        """Create links through which tablespaces are written: the file system of the data may be too small for them."""
        found = [_identify(place, profile) if place.source == _CHOSEN else place for place in places]
        if double := [source for source, count in Counter(place.source for place in found).items() if count > 1]:
            raise InvalidRequest(f"two directories are given for {', '.join(double)}", remedy="Name each tablespace once.")
        for place in found:
            if _is_tablespace(place) and place.directory in staging:
                (restored / FOLDER).mkdir(mode=0o700, exist_ok=True)
                (restored / place.source).symlink_to(staging[place.directory])
        return found

    def lay_out(self, server: Server, places: Sequence[Place], restored: Path, staging: Mapping[Path, Path]) -> list[str]:
        """Make links lead to the final places. A tablespace that the backup lacks gets none; its directory is previous data."""
        for place in places:
            link = restored / place.source
            if not _is_tablespace(place) or not link.is_symlink():
                super().lay_out(server, [place], restored, staging)
                continue
            filled = staging[place.directory]
            link.unlink()
            if any(place.owns(path.name) for path in filled.iterdir()):
                link.symlink_to(place.directory)
                sync_tree(filled)
            sync_directory(link.parent)
        return []


def _make_place(server: Server, item: str, directory: Path, source: str) -> Place:
    """The place of a tablespace or the WAL. Servers of other versions may have files in the same directory."""
    return Place(item=item, directory=directory, entries=[rf"PG_{server.version.series}_\d+"], source=source, link=True)


def _is_tablespace(place: Place) -> bool:
    return place.source.startswith(f"{FOLDER}/")


def _identify(place: Place, profile: Profile | None) -> Place:
    spaces = tablespaces.list_in_profile(profile) if profile is not None else []
    for space in spaces:
        if place.item in (space.name, space.location):
            return place.model_copy(update={"item": space.path, "source": space.path})
    known = ", ".join(f"{space.name} ({space.location})" for space in spaces)
    raise InvalidRequest(
        f"the backup has no tablespace {place.item}; it has {known or 'none'}",
        remedy="Name a tablespace of the backup, or its directory at the source.",
    )
