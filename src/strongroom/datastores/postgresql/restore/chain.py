"""Restores a backup directly from the stream into the final directory; each file is verified there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from strongroom.artifact import Positions, Profile
from strongroom.datastores.postgresql.files import lsn
from strongroom.datastores.postgresql.files.manifest import MANIFEST, WalRange, check_files, check_wal, parse_manifest
from strongroom.datastores.postgresql.files.tree import make_directory, require_space_for
from strongroom.datastores.postgresql.restore import blocks, first_start, timelines, way_in
from strongroom.datastores.postgresql.restore.wal import add_wal, is_wal, recover_wal, refuse_tablespaces
from strongroom.datastores.postgresql.server import superuser
from strongroom.datastores.postgresql.server.facts import RESTORED, expect_arrival
from strongroom.datastores.postgresql.server.versions import require_series
from strongroom.datastores.protocol.profiles import PROFILE
from strongroom.datastores.protocol.restores import ChainLink, Phase, Restored
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.toolkit.lineage import LINEAGE
from strongroom.datastores.toolkit.mark import mark_unfinished
from strongroom.datastores.toolkit.tar import TarReader
from strongroom.datastores.toolkit.witness import WITNESS_FILE
from strongroom.datastores.toolkit.writer import Writer
from strongroom.errors import ArtifactCorrupt, Unsupported
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

_CONTROL = "global/pg_control"
_STRAY = (
    LINEAGE,
    WITNESS_FILE,
    RESTORED,
    PROFILE,
    superuser.FOUND,
    "standby.signal",
    first_start.SIGNAL,
    "recovery.conf",
    "tablespace_map",
    MANIFEST,
)
_MAX_CONTROL = 64 * 1024
_RESERVE = 64 << 20
"""Additional bytes that the replay of the WAL may need."""


def restore(
    version: Version,
    chain: Sequence[ChainLink],
    target: Path,
    work_dir: Path,
    phase: Phase,
    server: Server | None = None,
    *,
    log_follows: bool = False,
) -> Restored:
    """See the Protocol. ``target`` is marked as unusable until the end.

    The WAL of a full, or of changed blocks, is replayed by the first server on ``target``: with a ``backup_label``, it does not
    start without this WAL. Other WAL is replayed here, unless the log follows, which continues the timeline of the source.
    """
    wal = [link for link in chain if is_wal(link)]
    base = chain[: len(chain) - len(wal)]
    if not base or base[0].kind != "full" or any(not blocks.is_blocks(link) for link in base[1:]):
        raise ArtifactCorrupt("the chain is not one of a full backup and its incrementals", remedy="Restore another backup.")
    for each in chain:
        require_series(version, each.server_version, "the server of the backup")
    newest = base[-1]
    merged = newest.data_size if len(base) > 1 else 0  # size of the stream; the WAL is added to it
    require_space_for(target, merged + sum(each.raw_size for each in (newest, *wal)) + _RESERVE)
    left_out = 0
    with mark_unfinished(target, keep=log_follows):
        if len(base) > 1 or blocks.has_list(newest):
            merged_files = blocks.merge(base, target, phase)
            needed, left_out = merged_files.manifest.wal, merged_files.left_out
        else:
            phase("extract")
            _extract(TarReader(newest.chunks()), target)
            phase("check files")
            needed = _check_files(target)
        positions = _check(version, newest, needed, target)
        _require_tablespaces(target)
        if newest.profile is None:  # its WAL was not checked when it was taken
            refuse_tablespaces(version, positions, positions, target, work_dir, required=False)
        facts = _settle(target)
        if wal:
            add_wal(wal, len(base), positions, target, phase)
            if any(each.positions.system_identifier is None for each in wal):  # taken by other programs
                refuse_tablespaces(version, positions, wal[-1].positions, target, work_dir)
            positions = wal[-1].positions
        if not log_follows:
            if wal:
                phase("recover")
                _recover(version, positions, target, work_dir, chain[-1].profile, server)
            else:
                _await_first_start(positions, target, server)
            if server is not None and not server.is_adopted and way_in.is_needed(chain[-1].profile):
                way_in.admit(version, target, work_dir, chain[-1].profile)
            phase("sync")
    return Restored(positions=positions, facts=facts, warnings=[_describe_maps(left_out)] if left_out else [])


def _recover(
    version: Version, positions: Positions, target: Path, work_dir: Path, profile: Profile | None, server: Server | None
) -> None:
    timelines.reserve(server, target, positions.timeline or 1)
    arrived = recover_wal(version, positions, target, work_dir, profile)
    assert arrived.wal_stop is not None and arrived.timeline is not None
    timelines.announce(target, arrived.timeline)
    expect_arrival(target, arrived.wal_stop, arrived.timeline)


def _await_first_start(positions: Positions, target: Path, server: Server | None) -> None:
    assert positions.wal_stop is not None and positions.timeline is not None
    taken = timelines.reserve(server, target, positions.timeline)
    first_start.prepare(target)
    expect_arrival(target, positions.wal_stop, taken)


def _describe_maps(number: int) -> str:
    return (
        f"visibility maps of {number} tables are not in an incremental of changed blocks: run VACUUM (vacuumdb --all) for fast "
        "index-only scans; until then they are slower, and right"
    )


# --- from the stream to files


def _extract(tar: TarReader, target: Path) -> None:
    """Unpack a stream without an index, ``pg_control`` last. No links are created, so no path leads outside."""
    control = None
    with Writer() as writer:
        for member in tar.members():
            path = target / member.path
            try:
                if member.kind == "directory":
                    if member.path:
                        make_directory(target, member.path)
                elif member.path == _CONTROL:
                    if control is not None or member.size > _MAX_CONTROL:
                        raise ArtifactCorrupt("the stream holds no usable pg_control")
                    control = b"".join(tar.data())
                else:
                    _copy(writer, path, tar.data())
            except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
                raise ArtifactCorrupt(f"the stream has {member.path!r} in a wrong place: {error.strerror}") from error
        if control is None:
            raise ArtifactCorrupt("the stream holds no pg_control", remedy="The backup of PostgreSQL is incomplete.")
        _copy(writer, target / _CONTROL, iter([memoryview(control)]))


def _copy(writer: Writer, path: Path, pieces: Iterator[memoryview]) -> None:
    file = writer.open(path)
    offset = 0
    for piece in pieces:
        file.write(offset, piece)
        offset += len(piece)
    file.close()


# --- what was unpacked


def _check_files(target: Path) -> list[WalRange]:
    """Check every file against the manifest; returns the required WAL."""
    try:
        data = (target / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise ArtifactCorrupt(f"the stream holds no {MANIFEST}", remedy="The backup is incomplete.") from None
    manifest = parse_manifest(data)
    check_files(manifest, target)
    return manifest.wal


def _check(version: Version, link: ChainLink, wal: Sequence[WalRange], target: Path) -> Positions:
    """Check that all WAL is present and the directory matches the description of the backup."""
    check_wal(wal, target / "pg_wal")
    require_series(version, (read_text(target / "PG_VERSION") or "").strip(), "the server of the backup")
    label = read_text(target / "backup_label") or ""
    start = re.search(rf"^START WAL LOCATION: ({lsn.PATTERN}) ", label, re.MULTILINE)
    newest = wal[-1]
    found = Positions(wal_start=start[1] if start else None, wal_stop=newest.end, timeline=newest.timeline)
    meant = link.positions  # empty for backups of other programs, until they were read
    if start is None or meant.wal_start not in (None, found.wal_start) or meant.wal_stop not in (None, found.wal_stop):
        raise ArtifactCorrupt(
            f"the stream is a backup from {found.wal_start} to {found.wal_stop} "
            f"instead of from {meant.wal_start} to {meant.wal_stop}",
            remedy="The artifact does not match its manifest; restore another backup.",
        )
    return found


def _require_tablespaces(target: Path) -> None:
    """Raises Unsupported for a backup of another program that contains the data directory but not its tablespaces."""
    named = re.findall(r"^(\d+) ", read_text(target / "tablespace_map") or "", re.MULTILINE)
    if missing := [oid for oid in named if not (target / "pg_tblspc" / oid).is_dir()]:
        raise Unsupported(
            f"the backup has tablespaces whose files are not in it: {', '.join(missing)}",
            remedy="They are in archives of their own; restore it with PostgreSQL's own programs.",
        )


def _settle(target: Path) -> dict[str, str]:
    """Remove what belongs to the source server; return its settings from ALTER SYSTEM.

    They would override Strongroom's configuration: the server could listen, archive or follow a primary like the source.
    """
    for name in _STRAY:
        (target / name).unlink(missing_ok=True)
    settings = [line for line in (read_text(target / first_start.SETTINGS) or "").splitlines() if line.strip() and line[0] != "#"]
    write_file(target / first_start.SETTINGS, "", find_owner(target))
    return {"dropped_settings": "; ".join(settings)} if settings else {}
