"""Restores incrementals of WAL: verifies that each file follows the previous one, then lets the server replay all of them to the
end of the last one; otherwise the restore fails.

The recovery runs in single-user mode: the server has neither socket nor port, and exits at the end of its input.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from strongroom.artifact import Positions, Profile
from strongroom.datastores.postgresql.files import lsn, wal
from strongroom.datastores.postgresql.files.waldump import find_waldump, has_tablespace_records
from strongroom.datastores.postgresql.profile import carry
from strongroom.datastores.postgresql.restore import first_start
from strongroom.datastores.protocol.restores import ChainLink, Phase
from strongroom.datastores.protocol.servers import Version
from strongroom.datastores.toolkit.tar import TarReader
from strongroom.datastores.toolkit.tools import Tool
from strongroom.errors import ArtifactCorrupt, NoSpace, ToolFailed, ToolStopped, Unsupported
from strongroom.system.files import read_text, write_file
from strongroom.system.users import find_owner

FOLDER = "pg_wal"
_SIGNAL = "recovery.signal"
_LEFT = ("backup_label.old", "tablespace_map.old")
_MAX_HISTORY = 1 << 20
_REMEDY = "The chain is broken from there on; restore the backup before it, and take a full."
_BEGUN = "redo starts at"
_NOT_BEGUN = "Nothing says that the backups are damaged: look at the cause, then restore again."
_SAID = re.compile(rf'"reached ({lsn.PATTERN}) on (\d+)"')


def is_wal(link: ChainLink) -> bool:
    """Whether the backup is an incremental of WAL."""
    return link.kind == "incremental" and link.positions.blocks_from is None


def add_wal(links: Sequence[ChainLink], first: int, base: Positions, target: Path, phase: Phase) -> None:
    """Add the WAL of ``links`` to that of the base, which is already in ``target``. Raises ArtifactCorrupt.

    ``first`` is the position of the first link in the complete chain.
    """
    folder = target / FOLDER
    size = find_file_size(folder)
    (system,) = struct.unpack("<Q", (target / "global" / "pg_control").read_bytes()[:8])
    before, history = base, _read_history(folder, base.timeline or 1)
    _prove(_range(base.wal_start, base.wal_stop, history, size), folder, size, system, history)
    for number, link in enumerate(links, first):
        after = link.positions
        phase(f"extract incremental {number}")
        if after.wal_from not in (None, before.wal_stop) or after.system_identifier not in (None, str(system)):
            raise _corrupt(
                f"incremental {number} begins at {after.wal_from} of system {after.system_identifier}, "
                f"and the backup before it ends at {before.wal_stop} of system {system}"
            )
        _extract(link, folder, size)
        history = _read_history(folder, after.timeline or 1)
        _require_descent(before, history, size)
        wanted = _range(_end(before.wal_stop, size), after.wal_stop, history, size)
        if missing := [name for name in wanted if not (folder / name).exists()]:
            raise _corrupt(f"incremental {number} holds no WAL file {missing[0]}")
        _prove(wanted, folder, size, system, history)
        before = after


def refuse_tablespaces(
    version: Version, base: Positions, last: Positions, target: Path, work_dir: Path, *, required: bool = True
) -> None:
    """Raises ArtifactCorrupt if the replay of untrusted WAL would create directories outside ``target``.

    ``required``: raise Unsupported if no program is installed that can check this.
    """
    waldump = find_waldump(version)
    if waldump is None:
        if not required:
            return
        raise Unsupported(
            f"WAL of others is replayed only when pg_waldump of PostgreSQL {version.series} has looked at it",
            remedy="Install it.",
        )
    folder, timeline = target / FOLDER, last.timeline or 1
    start, stop = lsn.parse_lsn(base.wal_start or "0/0"), lsn.parse_lsn(last.wal_stop or "0/0")
    size = find_file_size(folder)
    names = [name for name in _read_history(folder, timeline).files(start, stop, size) if (folder / name).is_file()]
    try:
        found = has_tablespace_records(waldump, folder, names, (timeline, start, stop), work_dir)
    except ToolStopped:
        raise
    except ToolFailed as error:
        raise _corrupt(f"the WAL cannot be read: {error.message}") from error
    if found:
        raise _corrupt("a tablespace was made or dropped in the WAL; it would be in the same place on this host")


def recover_wal(
    version: Version, positions: Positions, target: Path, work_dir: Path, profile: Profile | None = None
) -> Positions:
    """Make the server replay all WAL up to the end of the backup and shut down cleanly; returns the position that it reached.

    Raises ToolFailed if it did not reach the end. A new timeline begins there.
    """
    assert positions.wal_stop is not None and positions.timeline is not None
    owner = find_owner(target)
    config = work_dir / "recovery.conf"
    settings = _make_settings(positions) + carry.format_recovery_settings(profile, find_file_size(target / FOLDER), version)
    spaces = f"{first_start.IN_PLACE}\n" if first_start.has_in_place_tablespaces(target) else ""
    write_file(config, settings + spaces, owner)
    write_file(target / _SIGNAL, "", owner)
    question = work_dir / "recovery.sql"
    write_file(
        question,
        "SELECT 'reached ' || pg_current_wal_lsn() || ' on ' || timeline_id FROM pg_control_checkpoint()"
        " WHERE NOT pg_is_in_recovery()\n",
        owner,
    )
    argv: list[str | Path] = [version.programs["server"], "--single", "-D", target, "-c", f"config_file={config}"]
    with question.open("rb") as stdin:
        tool = Tool([*argv, "template1"], work_dir / "recovery.log", stdin=stdin.fileno())
    try:
        tool.check()
    except NoSpace:
        raise
    except ToolStopped:
        raise
    except ToolFailed as error:
        if _BEGUN not in tool.log.read_text(encoding="utf-8", errors="replace"):
            raise ToolFailed(f"the replay of the WAL did not begin: {error.message}", remedy=_NOT_BEGUN) from error
        raise ToolFailed(f"the WAL of the backup cannot be replayed to its end: {error.message}", remedy=_REMEDY) from error
    finally:
        tool.abort(0)
    return _require_arrival(positions, target, tool.log)


def _make_settings(positions: Positions) -> str:
    """All WAL is present, so nothing is fetched. If recovery ends before its target, the server itself fails."""
    return (
        "restore_command = 'false'\n"
        f"recovery_target_lsn = '{positions.wal_stop}'\n"
        "recovery_target_inclusive = off\n"
        f"recovery_target_timeline = '{positions.timeline}'\n"
        "recovery_target_action = 'promote'\n"
        "hot_standby = off\n"
        "archive_mode = off\n"
        "wal_level = replica\n"
        "shared_buffers = 128MB\n"
        "fsync = off\n"  # everything is synced once, after success
        "lc_messages = 'C'\n"
        "log_timezone = 'UTC'\n"
    )


def _require_arrival(positions: Positions, target: Path, log: Path) -> Positions:
    said = _SAID.search(log.read_text(encoding="utf-8", errors="replace"))
    assert positions.wal_stop is not None and positions.timeline is not None
    if (
        said is None
        or lsn.parse_lsn(said[1]) < lsn.parse_lsn(positions.wal_stop)
        or int(said[2]) <= positions.timeline
        or (target / _SIGNAL).exists()
        or (target / "backup_label").exists()
    ):
        raise ToolFailed(
            f"the recovery ended at {said[1] if said else 'no known place'}, not at {positions.wal_stop}: rows are missing",
            remedy=_REMEDY,
        )
    for name in _LEFT:
        (target / name).unlink(missing_ok=True)
    return positions.model_copy(update={"timeline": int(said[2])})


# --- files of WAL


def find_file_size(folder: Path) -> int:
    """Size of the WAL files in this directory in bytes. Raises ArtifactCorrupt."""
    size = wal.find_file_size(folder)
    if size is None:
        raise _corrupt("the full backup holds no WAL")
    return size


def _end(position: str | None, size: int) -> str:
    """The end of the file that contains ``position``: a backup contains its last file completely."""
    return lsn.format_lsn(-(-lsn.parse_lsn(position or "0/0") // size) * size)


def _range(start: str | None, stop: str | None, history: wal.History, size: int) -> list[str]:
    if start is None or stop is None:
        raise _corrupt("a backup of the chain does not tell where its WAL begins and ends")
    first, last = lsn.parse_lsn(start), lsn.parse_lsn(stop)
    return history.files(first, last, size) if first < last else []


def _read_history(folder: Path, timeline: int) -> wal.History:
    if timeline == 1:
        return wal.History(1)
    name = wal.history_file(timeline)
    text = read_text(folder / name, limit=_MAX_HISTORY)
    if text is None:
        raise _corrupt(f"{name}, which tells where timeline {timeline} comes from, is missing")
    try:
        return wal.History.parse(timeline, text)
    except wal.Unfit as error:
        raise _corrupt(str(error)) from error


def _require_descent(before: Positions, history: wal.History, size: int) -> None:
    try:
        left = history.left(before.timeline or 1)
    except wal.Unfit as error:
        raise _corrupt(str(error)) from error
    if left is not None and left < lsn.parse_lsn(_end(before.wal_stop, size)):
        raise _corrupt(
            f"timeline {before.timeline} was left at {lsn.format_lsn(left)}, before the end of the backup at {before.wal_stop}"
        )


def _extract(link: ChainLink, folder: Path, size: int) -> None:
    """Unpack one incremental. Backups of other programs may contain WAL that already exists; then it must be identical."""
    found: set[str] = set()
    tar = TarReader(link.chunks())
    for member in tar.members():
        name = member.path.removeprefix(f"{FOLDER}/")
        if member.kind == "directory" and name in ("", FOLDER):
            continue
        history = bool(wal.HISTORY.fullmatch(name))
        if member.kind != "file" or not (history or wal.NAME.fullmatch(name)):
            raise _corrupt(f"an incremental holds {member.path!r}, which is no WAL")
        if member.size > _MAX_HISTORY if history else member.size != size:
            raise _corrupt(f"WAL file {name} has {member.size} bytes")
        if history:
            _put_history(folder / name, b"".join(tar.data()))
            continue
        if name in found:
            raise _corrupt(f"WAL file {name} is in an incremental twice")
        found.add(name)
        if (folder / name).exists():
            _require_same(folder / name, tar.data())
            continue
        fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "wb", buffering=0) as file:
            for piece in tar.data():
                file.write(piece)


def _require_same(path: Path, pieces: Iterator[memoryview]) -> None:
    with path.open("rb", buffering=0) as file:
        for piece in pieces:
            if file.read(len(piece)) != piece:
                raise _corrupt(f"{path.name} is in the chain twice, and differs")


def _put_history(path: Path, data: bytes) -> None:
    if path.exists():
        if path.read_bytes() != data:
            raise _corrupt(f"{path.name} is in the chain twice, and differs")
    else:
        path.write_bytes(data)
        path.chmod(0o600)


def _prove(names: Sequence[str], folder: Path, size: int, system: int, history: wal.History) -> None:
    for name in names:
        try:
            with (folder / name).open("rb") as file:
                for _ in wal.verify_content(file.fileno(), name, size, system, history):
                    pass
        except FileNotFoundError as error:
            raise _corrupt(f"WAL file {name} is missing") from error
        except wal.Unfit as error:
            raise _corrupt(str(error)) from error


def _corrupt(what: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(what, remedy=_REMEDY)
