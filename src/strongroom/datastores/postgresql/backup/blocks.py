"""Incrementals of PostgreSQL 17 and later: the blocks that changed since the parent, according to the server's WAL summaries.

The tool needs the parent's list of files, which is read from the store. If the backup is encrypted and no key is available, a
local copy is used, verified by the hash in the parent's manifest.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path

from strongroom.artifact import Positions
from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.postgresql.files.increment import Relation, find_relation, find_whole_path
from strongroom.datastores.postgresql.files.manifest import LABEL, MANIFEST, MAX_BYTES, Manifest, WalRange
from strongroom.datastores.postgresql.server.connection import Connection, connect, describe_server, query
from strongroom.datastores.protocol.backups import BackupRequest
from strongroom.datastores.protocol.servers import Server
from strongroom.errors import ArtifactError, ConfigurationError, LineageChanged, NotFound, ToolFailed, WalGone
from strongroom.system.directories import make_directory
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

OLDEST = 17
_COPIES = "backups"
_MOST_COPIES = 16
_LARGEST_LIST = 48 << 20
"""Maximum size of the parent's list of files in bytes. The list of the incremental is slightly larger; up to 64 MiB are kept."""
_REMEDY = "Take a full backup; later incrementals are based on it."
_MARKS = {
    "start": rf"START WAL LOCATION: ({lsn.PATTERN}) ",
    "from": rf"INCREMENTAL FROM LSN: ({lsn.PATTERN})",
}


def is_possible(server: Server, parent: Positions | None) -> bool:
    """Whether an incremental of changed blocks with this parent is possible."""
    if int(server.version.series) < OLDEST or parent is None or parent.wal_from is not None:
        return False
    with connect(server) as connection:
        return has_summaries(connection, server)


def has_summaries(connection: Connection, server: Server) -> bool:
    """Whether the server reports every changed block and can read its complete data directory.

    Without checksums and ``wal_log_hints``, its summaries miss changes of visibility maps when a table is truncated, and deleted
    rows would reappear.
    """
    rows = query(connection, "SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", ["summarize_wal", *_LOGGED])
    settings = dict(rows)
    if not can_read_all(server.data_dir):
        return False
    if settings.get("summarize_wal") != "on" or all(settings.get(name) != "on" for name in _LOGGED):
        return False
    ((allowed,),) = query(
        connection, "SELECT bool_and(has_function_privilege(name, 'execute')) FROM unnest(%s::text[]) AS name", list(_FUNCTIONS)
    )
    return bool(allowed)


def can_read_all(data_dir: Path) -> bool:
    """False if there is a ``lost+found`` that only root can read, as at a mount point: the server's base backup would fail."""
    lost = data_dir / "lost+found"
    return not lost.is_dir() or os.access(lost, os.R_OK | os.X_OK)


_LOGGED = ("data_checksums", "wal_log_hints")
_FUNCTIONS = (
    "pg_available_wal_summaries()",
    "pg_get_wal_summarizer_state()",
    "pg_wal_summary_contents(bigint, pg_lsn, pg_lsn)",
)


def prepare(connection: Connection, server: Server, request: BackupRequest) -> Path:
    """Write the parent's list of files for the tool. Raises LineageChanged, WalGone if no incremental on it is possible."""
    parent = request.parent
    assert parent is not None
    if parent.wal_start is None:
        raise LineageChanged("the parent backup does not record where its WAL begins", remedy=_REMEDY)
    ((system, timeline),) = query(
        connection,
        "SELECT system_identifier::text, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int"
        " FROM pg_control_system()",
    )
    if parent.system_identifier not in (None, system):
        raise LineageChanged(
            f"the parent backup is of database system {parent.system_identifier}, and {describe_server(server)} is {system}",
            remedy=_REMEDY,
        )
    if parent.timeline != timeline:  # not every release distinguishes summaries of WAL that was never replayed
        raise LineageChanged(
            f"{describe_server(server)} was promoted: it is on timeline {timeline}, "
            f"and the parent backup is of timeline {parent.timeline}",
            remedy=_REMEDY,
        )
    _require_same_checksums(server, request)
    _require_summaries(connection, server, timeline, parent.wal_start)
    data = _read_parent_manifest(server, request)
    manifest = Manifest.parse(data)
    if manifest.wal[-1].start != parent.wal_start or str(manifest.system) != system:
        raise LineageChanged("the list of files in the parent backup belongs to another backup", remedy=_REMEDY)
    path = request.work_dir / "parent_manifest"
    write_file(path, data.decode(), find_owner(request.work_dir))
    return path


def _require_same_checksums(server: Server, request: BackupRequest) -> None:
    """While checksums are disabled or being enabled, the WAL and its summaries do not contain every changed block."""
    before = request.parent_profile.facts.get("data_checksums") if request.parent_profile else None
    now = request.profile.facts.get("data_checksums")
    if before is not None and now is not None and before != now:
        raise LineageChanged(
            f"data_checksums of {describe_server(server)} was {before} when the parent backup was taken, and is {now}",
            remedy=_REMEDY,
        )


def _require_summaries(connection: Connection, server: Server, timeline: int, start: str) -> None:
    """Raises WalGone unless all WAL from ``start`` on is or will be summarized. The tool would report it only while it runs."""
    known = lsn.parse_lsn(start)
    rows = query(
        connection,
        "SELECT start_lsn::text, end_lsn::text FROM pg_available_wal_summaries() WHERE tli = %s AND end_lsn > %s::pg_lsn",
        timeline,
        start,
    )
    for first, last in sorted((lsn.parse_lsn(first), lsn.parse_lsn(last)) for first, last in rows):
        if first > known:
            break
        known = max(known, last)
    ((reached,),) = query(
        connection,
        "SELECT greatest((SELECT max(end_lsn) FROM pg_available_wal_summaries() WHERE tli = %s),"
        " (SELECT summarized_lsn FROM pg_get_wal_summarizer_state()))::text",
        timeline,
    )
    if known < lsn.parse_lsn(reached):
        raise WalGone(
            f"{describe_server(server)} has no summary of the WAL at {lsn.format_lsn(known)}, after the parent backup",
            remedy=f"{_REMEDY} Take incrementals more often, or raise wal_summary_keep_time, so that summaries are kept.",
        )


def _read_parent_manifest(server: Server, request: BackupRequest) -> bytes:
    assert request.parent is not None
    wanted = request.parent.backup_manifest_sha256
    try:
        if request.parent_file is None:
            raise NotFound("there is no parent")
        data = request.parent_file(MANIFEST)
    except (ArtifactError, NotFound) as error:
        copy = read_text(_copy_path(server, wanted), limit=MAX_BYTES) if wanted else None
        if copy is None:
            raise LineageChanged(
                f"the parent's list of files cannot be read: {error.message.rstrip('.')}, "
                f"and {describe_server(server)} has no copy of it any more",
                remedy=_REMEDY,
            ) from error
        data = copy.encode()
    if wanted is not None and hashlib.sha256(data).hexdigest() != wanted:
        raise LineageChanged("the parent's list of files is damaged", remedy=_REMEDY)
    if len(data) > _LARGEST_LIST:
        raise LineageChanged(
            f"the parent's list of files has {len(data) >> 20} MiB, and an incremental is possible up to "
            f"{_LARGEST_LIST >> 20} MiB (about 300,000 files)",
            remedy="Take full backups of this server.",
        )
    return data


def complete_positions(server: Server, request: BackupRequest, positions: Positions) -> Positions:
    """Add to ``positions`` what the finished stream recorded. Raises ToolFailed if the stream is a different backup.

    Keeps a copy of its list of files for the next incremental.
    """
    data = request.kept.get(MANIFEST)
    if data is None:
        if request.kind == "incremental":  # without it the parent of the backup would be unknown
            raise ToolFailed("the incremental has no list of files, or one larger than 64 MiB", remedy=_REMEDY)
        return positions
    manifest = Manifest.parse(bytes(data))
    label = bytes(request.kept.get(LABEL, b"")).decode(errors="replace")
    start, since = (re.search(pattern, label) for pattern in _MARKS.values())
    wanted = request.parent.wal_start if request.kind == "incremental" and request.parent else None
    newest = manifest.wal[-1]
    told = (newest.start, newest.end, start and start[1], since and since[1])
    if told != (positions.wal_start, positions.wal_stop, positions.wal_start, wanted):
        raise ToolFailed(f"the tool wrote a backup from {told[0]} to {told[1]} on {told[3]}, not the one that was asked for")
    sha256 = hashlib.sha256(data).hexdigest()
    found: dict[str, object] = {"backup_manifest_sha256": sha256, "blocks_from": wanted}
    if manifest.system is not None:
        found["system_identifier"] = str(manifest.system)
    if wanted is not None:
        found["truncated"] = _find_truncated(server, manifest, wanted, newest) or None
    if int(server.version.series) >= OLDEST:
        with suppress(ConfigurationError, OSError):  # without the copy, the next incremental may become a full, with a warning
            _keep_copy(server, sha256, bytes(data))
    return positions.model_copy(update=found)


def _find_truncated(server: Server, manifest: Manifest, since: str, newest: WalRange) -> dict[str, int]:
    """The number of blocks to which relations were truncated since the parent, for relations that the stream contains in part.

    Beyond that number, only blocks in the stream are valid; blocks of older backups are not. The tool does not report this: for
    it, a relation that was truncated and then extended by empty pages is unchanged.
    """
    with connect(server) as connection:
        rows = query(
            connection,
            "SELECT c.reltablespace::text, c.reldatabase::text, c.relfilenode::text, c.relforknumber, min(c.relblocknumber)"
            " FROM pg_available_wal_summaries() s, pg_wal_summary_contents(s.tli, s.start_lsn, s.end_lsn) c"
            " WHERE s.tli = %s AND s.end_lsn > %s::pg_lsn AND s.start_lsn < %s::pg_lsn AND c.is_limit_block"
            " GROUP BY 1, 2, 3, 4",
            newest.timeline,
            since,
            newest.start,
        )
    increments = filter(None, (find_whole_path(file.name) for file in manifest.files))
    partial = {found[0] for path in increments if (found := find_relation(path))}
    cut = {Relation(space, database, number, fork): blocks for space, database, number, fork, blocks in rows}
    return {str(relation): blocks for relation, blocks in sorted(cut.items()) if blocks and relation in partial}


# --- copies of lists of files


def _copy_path(server: Server, sha256: str) -> Path:
    return server.base_dir / _COPIES / f"{sha256}.manifest"


def _keep_copy(server: Server, sha256: str, data: bytes) -> None:
    path = _copy_path(server, sha256)
    owner = find_owner(server.base_dir)
    make_directory(path.parent, owner)
    write_file(path, data.decode(), owner)
    copies = sorted(path.parent.glob("*.manifest"), key=lambda copy: copy.stat().st_mtime_ns)
    for old in copies[:-_MOST_COPIES]:
        old.unlink()
