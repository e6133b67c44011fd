"""Tablespaces: those of a server, and whether they changed during a backup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from strongroom.artifact import Positions, Profile
from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.postgresql.files.waldump import find_waldump, has_tablespace_records
from strongroom.datastores.postgresql.server.connection import Connection, describe_server, escape_name, query
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import LineageChanged, ServerFailed, Unsupported

FOLDER = "pg_tblspc"
FACT = "tablespaces"
REMEDY = "Move what they hold to pg_default (ALTER DATABASE or TABLE … SET TABLESPACE), and drop them."
OLDEST = 15
"""The first version with ``pg_backup_start``. Tablespaces outside the data directory are backed up from this version on."""


@dataclass(frozen=True, slots=True)
class Tablespace:
    """A tablespace other than the two that every server has. ``location`` is what the server reports."""

    oid: str
    name: str
    location: str

    @property
    def path(self) -> str:
        """The path of its files below the data directory: a directory or a symbolic link."""
        return f"{FOLDER}/{self.oid}"

    @property
    def is_outside(self) -> bool:
        """Whether it is outside the data directory."""
        return self.location.startswith("/")


def read(connection: Connection) -> tuple[Tablespace, ...]:
    """Read all tablespaces of users, by oid."""
    rows = query(
        connection, "SELECT oid::text, spcname, pg_tablespace_location(oid) FROM pg_tablespace WHERE oid >= 16384 ORDER BY oid"
    )
    return tuple(Tablespace(oid, escape_name(name), escape_name(location)) for oid, name, location in rows)


def require_supported(connection: Connection, server: Server) -> tuple[Tablespace, ...]:
    """Read the tablespaces. Raises Unsupported, naming those that cannot be backed up."""
    found = read(connection)
    if wrong := list_problems(found, server):
        raise Unsupported(
            f"{describe_server(server)} has tablespaces that cannot be backed up: {'; '.join(wrong)}", remedy=REMEDY
        )
    return found


def _find_problem(space: Tablespace, server: Server) -> str | None:
    link = server.data_dir / space.path
    if int(server.version.series) < OLDEST:
        return f"{space.name} in {space.location}: this needs PostgreSQL {OLDEST} or later"
    if not space.is_outside:
        return None if link.is_dir() and not link.is_symlink() else f"{space.name}: {link} is not a directory"
    try:
        inside = link.resolve(strict=True).is_relative_to(server.data_dir.resolve(strict=True))
        if link.readlink() != Path(space.location) or not link.is_dir():
            return f"{space.name}: {link} is not a link to {space.location}"
    except OSError as error:
        return f"{space.name} in {space.location}: {error.strerror}"
    return f"{space.name} in {space.location}, which is inside the data directory" if inside else None


def list_in_profile(profile: Profile) -> list[Tablespace]:
    """The tablespaces in a profile. A profile may be forged: use no path from it unless a user or the server named the path."""
    names = dict(part.partition(" ")[::2] for part in read_fact(profile))
    found = [Tablespace(oid, name, profile.outside.get(f"{FOLDER}/{oid}", "")) for oid, name in names.items() if oid.isdigit()]
    return [space if space.location else Tablespace(space.oid, space.name, space.path) for space in found]


def read_fact(profile: Profile) -> list[str]:
    """The fact that ``make_fact`` creates."""
    value = profile.facts.get(FACT)
    return value if isinstance(value, list) else []


def make_fact(spaces: Sequence[Tablespace]) -> list[str]:
    """Oid and name of each tablespace, for the facts of a profile."""
    return [f"{space.oid} {space.name}" for space in spaces]


def list_outside(spaces: Sequence[Tablespace], data_dir: Path) -> dict[str, str]:
    """For ``Profile.outside``: the directories of tablespaces, and of the WAL if it is outside the data directory."""
    found = {space.path: space.location for space in spaces if space.is_outside}
    if (data_dir / "pg_wal").is_symlink():
        found["pg_wal"] = str((data_dir / "pg_wal").resolve())
    return found


def list_problems(spaces: Sequence[Tablespace], server: Server) -> list[str]:
    """Reasons why some tablespaces cannot be backed up."""
    return [problem for space in spaces if (problem := _find_problem(space, server))]


def require_same(before: Sequence[Tablespace], after: Sequence[Tablespace], server: Server) -> None:
    """Raises ServerFailed if one was created, dropped or moved meanwhile: the backup may lack its files."""
    if changed := sorted({space.name for space in {*before} ^ {*after}}):
        raise ServerFailed(
            f"a tablespace of {describe_server(server)} was made, dropped or renamed during the backup: {', '.join(changed)}",
            remedy="Back up again.",
        )


def require_unchanged(server: Server, backup: Positions, size: int, work_dir: Path, *, standby: bool = False) -> None:
    """Raises ServerFailed if the WAL of a backup creates or drops a tablespace, even one that existed only for a moment.

    The replay of that WAL would create it at its original path, whatever that path contains on the host of the restore. If
    ``pg_waldump`` is installed, it reads the WAL up to the end of the last file, which incrementals replay completely. On a
    ``standby``, that file is incomplete, and no incremental follows. Raises ToolFailed.
    """
    assert backup.wal_start and backup.wal_stop and backup.timeline
    waldump, folder = find_waldump(server.version), server.data_dir / "pg_wal"
    start, end = lsn.parse_lsn(backup.wal_start), lsn.parse_lsn(backup.wal_stop)
    if not standby:
        end = -(-end // size) * size
    names = lsn.list_segments(backup.timeline, start, end, size)
    if waldump is None:
        return
    if has_tablespace_records(waldump, folder, names, (backup.timeline, start, end), work_dir):
        raise ServerFailed(
            f"a tablespace of {describe_server(server)} was made or dropped during the backup", remedy="Back up again."
        )


def refuse_in_wal(server: Server, names: Sequence[str], span: tuple[int, int, int], work_dir: Path) -> None:
    """Raises LineageChanged if the WAL in the files ``names`` creates or drops a tablespace after the parent.

    ``span`` is timeline, start and stop. The WAL is read only if ``pg_waldump`` is installed. Raises ToolFailed.
    """
    waldump = find_waldump(server.version)
    if waldump is None or not names:
        return
    if has_tablespace_records(waldump, server.data_dir / "pg_wal", names, span, work_dir):
        raise LineageChanged(
            f"a tablespace was made or dropped on {describe_server(server)} since the parent backup",
            remedy="Take a full backup; later incrementals are based on it.",
        )
