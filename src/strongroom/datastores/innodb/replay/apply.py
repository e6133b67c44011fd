"""Rolls data forward: batches are written while the one before them is applied, and every transaction is counted."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from strongroom.archive import Stretch, list_series, load_head
from strongroom.artifact import Positions
from strongroom.datastores.innodb.archive.details import SegmentDetails
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.innodb.replay.batches import Batch, BatchWriter, Repeat, Rewriter
from strongroom.datastores.innodb.replay.events import LogEvents
from strongroom.datastores.innodb.replay.replica import Replica
from strongroom.datastores.protocol.logs import Replay, Replayed
from strongroom.datastores.toolkit.mark import mark_unfinished
from strongroom.errors import ArtifactError, JobError, ServerFailed, StrongroomError, ToolFailed

_LOOK = 0.05
_OFTEN = 0.005
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Applied:
    """What was applied: how many transactions, where the last one ends, and the GTIDs that the data has."""

    transactions: int
    end: Position
    gtids: str


def replay(replay: Replay, data_dir: Path, work_dir: Path, rewriter: Rewriter, open: Callable[[Path], Replica]) -> Replayed:
    """See ``Logs.replay``. Until the end the data is marked as unusable."""
    with mark_unfinished(data_dir):
        applied = Application(replay, work_dir, rewriter, open).run()
    return Replayed(
        transactions=applied.transactions,
        positions=Positions(binlog_file=applied.end.file, binlog_position=applied.end.offset, gtid=applied.gtids or None),
        facts={"binlog": f"{applied.end.file} {applied.end.offset} {applied.gtids}".strip()},
    )


class Application:
    """Applies a replay to the data of the servers that ``open`` makes, each with a new folder for its relay logs."""

    def __init__(self, replay: Replay, work_dir: Path, rewriter: Rewriter, open: Callable[[Path], Replica]) -> None:
        self._replay = replay
        self._folder = work_dir / "replay"
        self._rewriter = rewriter
        self._open = open
        self._servers = 0
        self._damaging = False
        self._replica: Replica | None = None

    def run(self) -> Applied:
        """Raises ToolFailed, ServerFailed, ArtifactError, StorageError. Nothing is left running."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700)
        try:
            replica = self._start()
            replica.prepare(again=False)
            events = LogEvents(self._replay.stretch, self._replay.start, self._replay.end)
            writer = BatchWriter(events, self._rewriter, self._folder)
            number = self._apply_all(writer)
            replica = self._running
            replica.detach()
            state = str(writer.state or "") or self._replay.restored.gtid or ""  # a backup at the target may need no event
            gtids = replica.keep_state(state, list(_read_known(self._replay.stretch)))
            replica.end()
        finally:
            if self._replica is not None:
                self._replica.abort()
            shutil.rmtree(self._folder, ignore_errors=True)
        return Applied(number, writer.end or Position.parse(self._replay.start.position), gtids)

    @property
    def _running(self) -> Replica:
        assert self._replica is not None
        return self._replica

    def _start(self) -> Replica:
        self._servers += 1
        folder = self._folder / f"server-{self._servers}"
        folder.mkdir(mode=0o700)
        self._replica = self._open(folder)
        self._replica.start()
        return self._replica

    def _apply_all(self, writer: BatchWriter) -> int:
        number = 0
        batches = writer.write()
        with ThreadPoolExecutor(1, thread_name_prefix="log-reader") as pool:
            try:
                ahead = pool.submit(next, batches, None)
                while (batch := ahead.result()) is not None:
                    ahead = pool.submit(next, batches, None)
                    if batch.first != number + 1:
                        raise ToolFailed(f"transaction {batch.first} follows {number}: a part of the log was left out")
                    self._apply(batch)
                    number = batch.last
            finally:
                writer.stop()
        return number

    def _apply(self, batch: Batch) -> None:
        """Until the last transaction of the batch is applied."""
        first, was, patience = batch.first, batch.first - 1, _OFTEN
        while True:
            replica = self._running
            try:
                if first:
                    replica.load(batch, first)
                    first = 0
                applied = replica.count_applied()
                if applied > batch.last:
                    raise ToolFailed(f"the private server counts {applied} transactions, and {batch.last} were written")
                if applied > was:
                    was = applied
                    at = applied - batch.first
                    self._replay.on_progress(batch.done[at], batch.times[at])
                if applied == batch.last:
                    replica.unload()
                    self._damaging = self._damaging or Repeat.DAMAGING in batch.repeats
                    return
                replica.require_applying(batch)
            except (ServerFailed, ToolFailed) as error:
                if replica.is_running:
                    raise
                first = self._resume(batch, was, error)
                if not first:
                    return
            time.sleep(patience)
            patience = min(_LOOK, patience * 2)

    def _resume(self, batch: Batch, was: int, error: JobError) -> int:
        """Start another server after the first one died. Returns the transaction with which it begins; 0 if none is left."""
        if self._servers > 1:
            raise ServerFailed(
                f"the private server that applies the log died twice: {error.message}",
                remedy="See the kernel log for a lack of memory; then restore again.",
            ) from error
        _log.warning("the private server that applies the log died; another one continues: %s", error.message)
        self._running.abort()
        replica = self._start()
        replica.prepare(again=True)
        applied = replica.count_applied()
        at = applied - batch.first + 1
        if not batch.first - 1 <= applied <= batch.last:
            raise _explain_doubt(f"the data is at transaction {applied}, and the log at {batch.first}", error)
        if not replica.has_exact_position():
            raise _explain_doubt("the table of its position is not in InnoDB", error)
        _require_exact(batch, at, error, damaging=self._damaging)
        return applied + 1 if applied < batch.last else 0


def _read_known(stretch: Stretch) -> Iterator[str]:
    """The GTIDs at the end of each series of the log."""
    for location in list_series(stretch.store, stretch.log):
        with suppress(ArtifactError):  # of a series that is not applied
            head = load_head(stretch.store, location)
            if head.segment is not None:
                yield SegmentDetails.of(head.segment).gtids


def _require_exact(batch: Batch, at: int, error: JobError, *, damaging: bool) -> None:
    """Require that the data is exactly after ``at`` transactions of the batch."""
    if damaging or Repeat.DAMAGING in batch.repeats[: at + 1]:
        raise _explain_doubt("tables without transactions (MyISAM, Aria) may have a part of a change", error)
    if at < len(batch.repeats) and batch.repeats[at] != Repeat.EXACT:
        raise _explain_doubt("the statement that it executed may have had its effect", error)
    if batch.uses_temporary:
        raise _explain_doubt("its temporary tables are lost", error)


def _explain_doubt(cause: str, error: JobError) -> StrongroomError:
    return ServerFailed(
        f"the private server that applies the log died, and it is not known exactly what it applied: {cause}; {error.message}",
        remedy="Restore again. If it dies again, see the kernel log for a lack of memory.",
    )
