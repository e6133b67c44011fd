"""Restore of a chain of physical backups: extract the full backup into the final directory, prepare it there, apply the
incrementals one after the other.
"""

from __future__ import annotations

import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from strongroom.artifact import Positions
from strongroom.datastores.innodb.backup import COMPLETED
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.innodb.checkpoints import PREFIXES, TOOL_FILES, Checkpoints, read_checkpoints, read_side_file
from strongroom.datastores.innodb.unpack import Unpack
from strongroom.datastores.protocol.restores import ChainLink, Phase, Restored
from strongroom.datastores.protocol.servers import Server, Version
from strongroom.datastores.toolkit.feed import Background
from strongroom.datastores.toolkit.mark import mark_unfinished
from strongroom.datastores.toolkit.tools import Tool
from strongroom.datastores.toolkit.writer import Writer
from strongroom.errors import ArtifactCorrupt, ToolFailed
from strongroom.system.disks import require_space

MAX_PREPARE_MEMORY = 1 << 30
_KEPT = frozenset(f"{prefix}checkpoints" for prefix in PREFIXES)
_OF_THE_SOURCE = re.compile(r"donor_galera_info|backup-my\.cnf|grastate\.dat|gvwstate\.dat|galera\.cache|.+-\d{6}\.ibb")
_RESERVE = 64 << 20
"""Bytes in addition to the data that a prepare may need for its logs."""


class _Extraction:
    """Extracts one backup into a directory, in a thread."""

    def __init__(self, link: ChainLink, directory: Path, *, durable: bool) -> None:
        self._unwanted = False
        self._work = Background("extraction", lambda: self._run(link, directory, durable))

    def _run(self, link: ChainLink, directory: Path, durable: bool) -> None:
        with Writer(durable=durable) as writer, closing(link.chunks()) as chunks:
            unpack = Unpack(directory, writer)
            for chunk in chunks:
                if self._unwanted:
                    return
                unpack.feed(chunk)
            unpack.finish()

    def finish(self) -> None:
        """Wait for the end. Raises ArtifactError, StorageError, OSError."""
        self._work.finish()

    def abort(self) -> None:
        """End it. A thread that waits for the store is abandoned."""
        self._unwanted = True
        self._work.ends(5)


class ChainRestore(ABC):
    """A restore of a chain by mariadb-backup or XtraBackup. While one backup is prepared or applied, the next one is fetched."""

    def __init__(
        self,
        version: Version,
        chain: Sequence[ChainLink],
        target: Path,
        work_dir: Path,
        phase: Phase,
        server: Server | None = None,
    ) -> None:
        self._version = version
        self._server = server
        self._chain = chain
        self._target = target
        self._work_dir = work_dir
        self._phase = phase
        self._parts: list[Tool | _Extraction] = []
        self._settings: dict[str, str] = {}

    def restore(self) -> Restored:
        """Restore the chain. Until the end ``target`` is marked as unusable."""
        _require_space(self._chain, self._target, self._work_dir)
        with mark_unfinished(self._target):
            self._run()
            self._phase("sync")
            positions = _correct(self._chain[-1].positions, self._target)
            facts = _clean(self._target)
        return Restored(positions=positions, facts=facts, settings=self._settings)

    def _run(self) -> None:
        """Run all steps. Raises the first error; nothing is left running."""
        try:
            extraction = self._extract(0)
            for number, link in enumerate(self._chain):
                self._phase(f"extract incremental {number}" if number else "extract")
                extraction.finish()
                self._require_extracted(number)
                self._make_safe(number)
                self._phase(f"apply incremental {number}" if number else "prepare")
                tool = self._prepare(number)
                if number + 1 < len(self._chain):
                    extraction = self._extract(number + 1)
                tool.check(COMPLETED)
                self._require_prepared(link, self._state_after(number))
                if number:
                    shutil.rmtree(self._directory(number))
        finally:
            for part in self._parts:
                part.abort()

    def _directory(self, number: int) -> Path:
        return self._work_dir / f"incremental-{number}" if number else self._target

    def _extract(self, number: int) -> _Extraction:
        directory = self._directory(number)
        directory.mkdir(mode=0o700, exist_ok=number == 0)
        extraction = _Extraction(self._chain[number], directory, durable=number == 0)
        self._parts.append(extraction)
        return extraction

    @abstractmethod
    def _command(self, number: int) -> list[str]:
        """The command that prepares the full backup (number 0), or applies the incremental of this number."""

    @abstractmethod
    def _state_after(self, number: int) -> str:
        """The state that the tool writes when it has prepared, or applied, the backup of this number."""

    @abstractmethod
    def _require_tool(self, server_version: str) -> None:
        """Raises VersionMismatch unless the tool is made for a server of this version."""

    @abstractmethod
    def _rewrite_options(self, directory: Path, number: int) -> dict[str, str]:
        """Replace the option file of the extracted backup of this number, which is hostile.

        Returns the settings that the data needs.
        """

    def _prepare(self, number: int) -> Tool:
        argv = [
            *self._command(number),
            f"--use-memory={_prepare_memory()}",
            f"--tmpdir={self._work_dir}",
            f"--target-dir={self._target}",
        ]
        if number:
            argv.append(f"--incremental-dir={self._directory(number)}")
        tool = Tool(argv, self._work_dir / f"prepare-{number}.log")
        self._parts.append(tool)
        return tool

    def _require_extracted(self, number: int) -> None:
        """Require that the stream is the backup in the manifest, and begins where the one before ends."""
        found = read_checkpoints(self._directory(number))
        positions = self._chain[number].positions
        kind = "incremental" if number else "full-backuped"
        if found is None or found.backup_type != kind:
            raise _mismatch(number, f"holds {found.backup_type if found else 'no checkpoints'} instead of {kind}")
        version = re.search(r"^server_version = (\S+)$", read_side_file(self._directory(number), "info") or "", re.MULTILINE)
        if version:  # the stream has precedence over the manifest
            self._require_tool(version[1])
        for said, meant in ((found.to_lsn, positions.to_lsn), (found.last_lsn, positions.last_lsn)):
            if meant is not None and said != meant:
                raise _mismatch(number, f"ends at LSN {said} instead of {meant}")
        if number:
            before = self._state().to_lsn
            if found.from_lsn != before:
                raise _mismatch(number, f"begins at LSN {found.from_lsn}, but the one before it ends at {before}")

    def _make_safe(self, number: int) -> None:
        """Remove from the stream what leads the tool out of the directory: libraries and paths to load, links to tables."""
        directory = self._directory(number)
        for link in directory.rglob("*.isl"):
            link.unlink()
        self._settings = self._rewrite_options(directory, number)

    def _require_prepared(self, link: ChainLink, wanted: str) -> None:
        state = self._state()
        if state.backup_type != wanted or link.positions.to_lsn not in (None, state.to_lsn):
            raise ToolFailed(
                f"the tool reported success, but the data is {state.backup_type} at LSN {state.to_lsn} "
                f"instead of {wanted} at {link.positions.to_lsn}"
            )

    def _state(self) -> Checkpoints:
        return read_checkpoints(self._target) or Checkpoints("nothing", -1, -1, -1)


def _mismatch(number: int, what: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(
        f"the stream of {f'incremental {number}' if number else 'the full backup'} {what}",
        remedy="The artifact does not match its manifest; restore another backup.",
    )


def _correct(said: Positions, target: Path) -> Positions:
    """The positions, with that of InnoDB in the binary log if it is later: the data contains everything up to there.

    It may be earlier: what is not in InnoDB, and definitions of tables, do not count there. It may also be one of another log: of
    a server that was restored or reset, InnoDB remembers positions of the log that it had before. What is later than the end of
    the log after the backup is such a position.
    """
    name, _, offset = (read_side_file(target, "binlog_pos_innodb") or "").strip().partition("\t")
    if not said.binlog_file or said.binlog_position is None or not offset.isdigit():
        return said
    file = name.rpartition("/")[2]
    try:
        found = Position(file, int(offset))
        if found.precedes(Position(said.binlog_file, said.binlog_position)):
            return said
        if said.binlog_upper and not found.precedes(Position.parse(said.binlog_upper)):
            return said
    except ValueError:
        return said
    return said.model_copy(update={"binlog_file": file, "binlog_position": int(offset), "gtid": None})


def _clean(target: Path) -> dict[str, str]:
    """Remove files of the tools and of the source server; return their positions. The checkpoints file stays for ``check_data``.

    A stray ``grastate.dat`` would take the restored data into the old cluster, stray binary logs have no index.
    """
    galera = (read_side_file(target, "galera_info") or "").partition(" ")[0].strip()
    binlog = (read_side_file(target, "binlog_info") or "").strip()
    base = re.escape(binlog.split("\t")[0].rpartition(".")[0] or "binlog")
    stray = re.compile(rf"{_OF_THE_SOURCE.pattern}|{base}\.(\d{{6,}}|index|state)")
    for path in target.iterdir():  # a database may have the name of such a file
        if not path.is_dir() and (path.name in TOOL_FILES or stray.fullmatch(path.name)) and path.name not in _KEPT:
            path.unlink()
    facts = {"galera": galera, "binlog": binlog.replace("\t", " ")}
    return {name: value for name, value in facts.items() if value}


def _require_space(chain: Sequence[ChainLink], target: Path, work_dir: Path) -> None:
    """Raise NoSpace before anything is fetched. Two incrementals are extracted at a time: one is applied, the next is fetched."""
    sizes = [link.raw_size for link in chain]
    scratch = max((sum(sizes[n : n + 2]) for n in range(1, len(sizes))), default=0)
    wanted = {target: sizes[0] + max(sizes[1:], default=0) + _RESERVE, work_dir: scratch}
    if target.stat().st_dev == work_dir.stat().st_dev:
        wanted = {target: sum(wanted.values())}
    for place, needed in wanted.items():
        require_space(place, needed)


def _prepare_memory() -> int:
    """Memory for a prepare. More than 1 GiB makes it no faster; a quarter of the free memory leaves enough for the servers."""
    with Path("/proc/meminfo").open(encoding="utf-8") as file:
        match = re.search(r"^MemAvailable:\s+(\d+) kB", file.read(), re.MULTILINE)
    available = int(match[1]) * 1024 if match else MAX_PREPARE_MEMORY
    return max(64 << 20, min(MAX_PREPARE_MEMORY, available // 4))
