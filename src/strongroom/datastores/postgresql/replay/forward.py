"""Rolls restored data forward to a position in the log, and proves that it arrived exactly there."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from strongroom.artifact import Positions, Profile
from strongroom.datastores.postgresql.archive.scanner import find_record_end
from strongroom.datastores.postgresql.files.lsn import format_lsn, list_segments, parse_lsn
from strongroom.datastores.postgresql.files.wal import NAME, History, Unfit, find_address, history_file
from strongroom.datastores.postgresql.profile import carry
from strongroom.datastores.postgresql.replay.feeder import Feeder
from strongroom.datastores.postgresql.replay.gate import WAL, Gate
from strongroom.datastores.postgresql.replay.pieces import REMEDY, WalPiece, find_highest_timeline, open_pieces
from strongroom.datastores.postgresql.replay.recovery import make_settings, recover
from strongroom.datastores.postgresql.restore import first_start, timelines, way_in
from strongroom.datastores.postgresql.restore.wal import find_file_size
from strongroom.datastores.postgresql.server.facts import expect_arrival
from strongroom.datastores.protocol.logs import Replay, Replayed
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.toolkit.mark import mark_unfinished
from strongroom.errors import ArtifactCorrupt, ToolFailed
from strongroom.system.directories import make_directory, remove_tree
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

_SPOOL = "strongroom_wal"
"""Directory in the data directory: files are moved from it to the server."""
_LEFT = ("backup_label.old", "tablespace_map.old", "postmaster.opts")
_MAX_HISTORY = 1 << 20
_PREPARED = "max_prepared_transactions"


def replay(version: Version, data_dir: Path, work_dir: Path, replay: Replay, server: Server | None = None) -> Replayed:
    """See ``Logs``."""
    with mark_unfinished(data_dir):
        pieces = open_pieces(replay.stretch)
        last = pieces[-1]
        size, system = last.details.file_size, last.details.system
        _require_same(data_dir, system, size)
        start, end = parse_lsn(replay.start.position), find_record_end(parse_lsn(replay.end), size)
        if end < start:
            raise ArtifactCorrupt(
                f"the backup ends at {replay.start.position}, after {replay.end}", remedy="Use an older backup."
            )
        _remove_files(data_dir / WAL, start, size)
        taken = find_highest_timeline(replay.stretch, system)
        timeline = timelines.reserve(server, data_dir, last.timeline, taken)
        _replay_files(version, data_dir, work_dir, replay, pieces, start, end)
        reached = _require_arrival(data_dir, last.timeline, timeline, end)
        timelines.announce(data_dir, timeline)
        expect_arrival(data_dir, format_lsn(reached), timeline)
        if server is not None and not server.is_adopted:  # the log may have renamed the superuser
            way_in.admit(version, data_dir, work_dir, replay.profile)
    positions = Positions(wal_stop=format_lsn(reached), timeline=timeline, system_identifier=str(system))
    return Replayed(transactions=None, positions=positions, settings=_find_settings(data_dir, replay.profile))


def _find_settings(data_dir: Path, profile: Profile) -> dict[str, str]:
    """A server does not start if it allows fewer prepared transactions than there are: the log may have raised the limit."""
    prepared = sum(1 for _ in (data_dir / "pg_twophase").iterdir())
    allowed = carry.read_number(profile, _PREPARED, carry.AT_LEAST[_PREPARED]) or 0
    return {_PREPARED: str(prepared)} if prepared > allowed else {}


def _require_same(data_dir: Path, system: int, size: int) -> None:
    (found,) = struct.unpack("<Q", (data_dir / "global" / "pg_control").read_bytes()[:8])
    if found != system or find_file_size(data_dir / WAL) != size:
        raise ArtifactCorrupt(
            f"the backup is of system {found}, and the log of system {system} with files of {size} bytes",
            remedy="Restore another backup.",
        )


def _remove_files(folder: Path, start: int, size: int) -> None:
    """Remove WAL that begins after the end of the backup: the server would replay it if the log does not contain it."""
    for path in folder.iterdir():
        if NAME.fullmatch(path.name) and find_address(path.name, size) >= start:
            path.unlink()


def _replay_files(
    version: Version, data_dir: Path, work_dir: Path, replay: Replay, pieces: Sequence[WalPiece], start: int, end: int
) -> None:
    owner = find_owner(data_dir)
    last, size = pieces[-1], pieces[-1].details.file_size
    histories = {history_file(piece.timeline): piece.details.history for piece in pieces if piece.timeline > 1}
    for name, text in histories.items():
        write_file(data_dir / WAL / name, text, owner)
    spool, folder = data_dir / _SPOOL, work_dir / "gate"
    for directory in (spool, folder):
        make_directory(directory, owner)
    backup = data_dir / WAL / list_segments(pieces[0].timeline, start, start + 1, size)[0]
    feeder = Feeder(pieces, start, end, spool, backup if backup.exists() else None)
    gate = Gate(feeder, data_dir, folder, last.history, histories, size, end)
    settings = make_settings(last.timeline, replay.profile, size, version, data_dir)

    def report() -> None:
        if gate.position > start:
            replay.on_progress(gate.position - start, feeder.find_time(gate.position))

    try:
        feeder.begin()
        gate.open()
        recover(version, data_dir, work_dir, gate, settings, report)
    finally:
        feeder.close()
        gate.close()
        remove_tree(spool)
        remove_tree(folder)
    replay.on_progress(end - start, feeder.find_time(end))
    for name in _LEFT:
        (data_dir / name).unlink(missing_ok=True)


def _require_arrival(data_dir: Path, before: int, timeline: int, end: int) -> int:
    """Where the server ended its recovery, by the history of its new timeline. Raises ToolFailed if that is before the end."""
    reached = None
    try:
        text = read_text(data_dir / WAL / history_file(timeline), limit=_MAX_HISTORY)
        reached = History.parse(timeline, text or "").left(before)
    except Unfit:
        pass
    left = [name for name in (first_start.SIGNAL, "backup_label", "postmaster.pid") if (data_dir / name).exists()]
    if reached is None or reached < end or left:
        where = format_lsn(reached) if reached is not None else "an unknown position"
        raise ToolFailed(f"the server ended its recovery at {where}, not at {format_lsn(end)}: rows are missing", remedy=REMEDY)
    return reached
