"""Appends segments to a series. A thread stores them, so that the source of the log never waits for the store."""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from strongroom.archive.load import Head
from strongroom.archive.packing import pack_index
from strongroom.archive.put import create
from strongroom.archive.records import Covered, LogSegment, SegmentIndex, Span, Time
from strongroom.artifact.segments.codec import DEFAULT_LEVEL, Sealer, compression
from strongroom.errors import LogTaken, StorageError, StorageExists
from strongroom.sections import Artifact
from strongroom.storage import Store

LIMIT = 16 * 1024**2
"""Bytes of the log in one segment, unless one transaction is longer."""
MAX_AGE = 5.0
"""Seconds that bytes wait before they are stored."""
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0


@dataclass(slots=True)
class _Cut:
    data: bytes | bytearray
    begin: str
    span: Span
    index: SegmentIndex
    written: Time


class SegmentWriter:
    """Appends to the series that ends at ``head``. All methods are for one thread; the store has another one.

    Call ``append`` with bytes of the log, then ``cut`` at a position where a segment may end. At most one segment is on its way
    to the store: while ``is_busy``, nothing can be cut. If the store fails, it is tried again until ``close``; ``trouble`` is its
    last error. ``durable`` is where the series ends in the store: only what is before it may be confirmed to the server.
    """

    def __init__(
        self,
        store: Store,
        head: Head,
        settings: Artifact,
        recipients: Sequence[str] = (),
        *,
        limit: int = LIMIT,
        max_age: float = MAX_AGE,
        on_stored: Callable[[], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``on_stored`` is called by the other thread after each change of ``durable``, and when an error ends the writer.

        Raises ConfigurationError for a bad recipient.
        """
        self._store = store
        self._codec = settings.codec
        self._compression = compression(settings.codec, settings.level or DEFAULT_LEVEL[settings.codec])
        self._sealer = Sealer(recipients)
        self._limit, self._max_age = limit, max_age
        self._on_stored = on_stored or (lambda: None)
        self._clock = clock
        self._writer = secrets.token_hex(8)
        self._buffer = bytearray()
        self._since = 0.0
        self._position = head.position
        self._durable = head
        self._task: _Cut | Time | None = None
        self._changed = threading.Condition()
        self._stopped = False
        self._error: BaseException | None = None
        self.trouble: StorageError | None = None
        """Why the store does not take the current segment; None while it works."""
        self._thread: threading.Thread | None = None  # starts with the first segment, so that nothing runs before ``__enter__``

    @property
    def durable(self) -> Head:
        """Where the series ends in the store."""
        return self._durable

    @property
    def position(self) -> str:
        """Where the next segment begins: the end of what was cut."""
        return self._position

    @property
    def size(self) -> int:
        """Bytes that were appended and not yet cut."""
        return len(self._buffer)

    @property
    def remaining(self) -> int:
        """How many more bytes the segment should get."""
        return max(0, self._limit - len(self._buffer))

    @property
    def is_busy(self) -> bool:
        """Whether a segment is on its way to the store."""
        return self._task is not None

    @property
    def due_in(self) -> float | None:
        """Seconds until a segment should be cut; None while there is nothing to store."""
        if not self._buffer:
            return None
        return 0.0 if not self.remaining else max(0.0, self._since + self._max_age - self._clock())

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes of the log. Raises what ended the writer."""
        self.check()
        if not self._buffer:
            self._since = self._clock()
        self._buffer += data

    def cut(self, span: Span, index: SegmentIndex | None = None) -> None:
        """Store what was appended as a segment that ends at ``span.end``. Raises what ended the writer."""
        self.check()
        if not self._buffer or self.is_busy:
            raise RuntimeError("there is nothing to cut, or another segment is on its way")
        data, self._buffer = self._buffer, bytearray()
        cut = _Cut(data, self._position, span, index or SegmentIndex(), _now())
        self._position = span.end
        self._give(cut)

    def discard(self) -> None:
        """Forget what was appended and not cut: it is read from the server again."""
        self._buffer = bytearray()

    def cover(self, until: Time) -> None:
        """Record that the log had nothing after ``durable`` at the time ``until``. Does nothing while a segment is on its way."""
        self.check()
        if not self._buffer and not self.is_busy:
            self._give(until)

    def wait(self, timeout: float | None = None) -> bool:
        """Until the segment on its way is stored; False if it is not after ``timeout`` seconds. Raises what ended the writer."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._task is None or self._error is not None, timeout)
        self.check()
        return done

    def check(self) -> None:
        """Raise what ended the writer: LogTaken, or an error that another attempt does not repair."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread. What is not stored by now is given up: the next writer continues at the end of the store."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def __enter__(self) -> SegmentWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _give(self, task: _Cut | Time) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="log-segments", daemon=True)
            self._thread.start()
        with self._changed:
            self._task = task
            self._changed.notify_all()

    # --- in the thread

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._task is not None or self._stopped)
                task = self._task
                if task is None or self._stopped:
                    return
            try:
                self._store_task(task)
            except BaseException as error:  # noqa: BLE001  (raised again in the caller's thread)
                self._error = error
            with self._changed:
                self._task = None
                self._changed.notify_all()
            self._on_stored()
            if self._error is not None:
                return

    def _store_task(self, task: _Cut | Time) -> None:
        if isinstance(task, _Cut):
            self._store_cut(task)
        else:
            head = self._durable
            covered = Covered(number=head.number - 1, record=head.sha256, time=task)
            key = head.series.location.covered
            self._insist(lambda: self._store.put(key, covered.model_dump_json().encode()))

    def _store_cut(self, cut: _Cut) -> None:
        head = self._durable
        raw = len(cut.data)
        data = self._compression.compress(memoryview(cut.data))
        cut.data = b""  # memory is limited
        data = self._sealer.seal(data)
        segment = LogSegment(
            series=head.series.location,
            number=head.number,
            begin=cut.begin,
            raw=raw,
            stored=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            previous=head.sha256,
            codec=self._codec,
            encrypted=bool(self._sealer),
            written=cut.written,
            writer=self._writer,
            index=pack_index(cut.index, self._sealer),
            **dict(cut.span),
        )
        record = segment.model_dump_json(exclude_none=True).encode()
        self._insist(lambda: self._put_data(segment, data))
        self._insist(lambda: create(self._store, segment.series.record_of(segment.number), record))
        self._durable = Head(head.series, segment, hashlib.sha256(record).hexdigest())

    def _put_data(self, segment: LogSegment, data: bytes) -> None:
        try:
            md5 = self._store.put(segment.data_key, data, create=True).md5
        except StorageExists:  # the key contains the hash: an earlier attempt stored it
            md5 = None
        stat = self._store.head(segment.data_key)
        if stat.size != segment.stored or (md5 and stat.md5 and stat.md5 != md5):
            raise StorageError(
                f"{self._store.url(stat.key)} is not what was written: {stat.size} bytes of {segment.stored}",
                remedy="Check the store.",
            )

    def _insist(self, action: Callable[[], object]) -> None:
        """Until the store does it, or the writer is closed."""
        pause = _FIRST_PAUSE
        while True:
            try:
                action()
            except LogTaken:
                raise
            except StorageError as error:
                self.trouble = error
            else:
                self.trouble = None
                return
            with self._changed:
                if self._changed.wait_for(lambda: self._stopped, pause):
                    raise self.trouble
            pause = min(_LONGEST_PAUSE, pause * 2)


def _now() -> Time:
    return time.time_ns() // 1000
