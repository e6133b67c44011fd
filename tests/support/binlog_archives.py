"""Archivers of binary logs, in a thread, and what they have stored."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from strongroom.archive import LogLocation, LogSegment, Piece, SegmentReader, Stretch, load_contents, load_head, load_trimmed
from strongroom.datastores import get
from strongroom.datastores.innodb.archive.details import SegmentDetails
from strongroom.datastores.innodb.archive.segments import Segments
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.protocol.logs import Archiver, LogRequest, Transaction
from strongroom.sections import Artifact
from strongroom.storage import Store
from support.archives import LOG
from support.logs import Log

MAX_AGE = 0.2


def open_archiver(log: Log, store: Store) -> Archiver:
    """What the duty opens."""
    request = LogRequest(store, LOG, Artifact(codec="zstd"), max_age=MAX_AGE)
    return get(log.kind).require_logs().open_archiver(log.running.server, request)


class Archiving:
    """An archiver in a thread, until the end of the block."""

    def __init__(self, log: Log, store: Store) -> None:
        self.log, self.archiver = log, open_archiver(log, store)
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.archiver.run()
        except BaseException as error:
            self.error = error

    def wait_until(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 60
        while not done():
            if self.error is not None:
                raise self.error
            assert time.monotonic() < deadline, f"{self.archiver.trouble}, {self.archiver.durable}"
            time.sleep(0.02)

    def wait(self, series: int | None = None) -> None:
        """Until all that the server has logged is stored, in this series."""
        self.wait_until(lambda: self._has(self.log.end(), series))

    def _has(self, end: Position, series: int | None) -> bool:
        head = self.archiver.durable
        return head is not None and head.position == str(end) and series in (None, head.series.location.number)

    def __enter__(self) -> Archiving:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.archiver.stop()
        self._thread.join(30)
        assert not self._thread.is_alive()
        self.archiver.close()


@dataclass
class Archived:
    """A series in the store."""

    store: Store
    series: int = 0
    log: LogLocation = LOG

    @property
    def reader(self) -> SegmentReader:
        return SegmentReader(self.store, self.log.series(self.series))

    @property
    def stretch(self) -> Stretch:
        """All that is stored of it."""
        location = self.log.series(self.series)
        head, contents = load_head(self.store, location), load_contents(self.store, location, load_trimmed(self.store, self.log))
        piece = Piece(self.series, min(contents.segments), head.number, head.series.begin, head.position)
        return Stretch(self.store, self.log, (piece,))

    def segments(self) -> list[LogSegment]:
        return [segment for _, segment in self.stretch.segments()]

    def files(self) -> dict[str, bytes]:
        """The files of the server: segments of a file one after another."""
        files: dict[str, bytes] = {}
        for segment in self.segments():
            details = SegmentDetails.of(segment)
            assert len(files.setdefault(details.file, b"")) == details.begin
            files[details.file] += self.reader.read(segment)
        return files

    def transactions(self, log: Log) -> list[Transaction]:
        """In order, without their tables."""
        segments = Segments(self.stretch, self.stretch.pieces[0], log.dialect)
        return [
            Transaction(str(group.first), str(group.end), time, group.start.gtid)
            for number in segments.numbers
            for group, time in zip(segments.groups(number), segments.times(number), strict=True)
        ]
