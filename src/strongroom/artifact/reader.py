"""Reads an artifact: segments are fetched and checked in parallel, and returned in order."""

from __future__ import annotations

import contextlib
import hashlib
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate, islice
from queue import SimpleQueue

from strongroom.artifact.records.load import load_manifest
from strongroom.artifact.records.location import Location
from strongroom.artifact.records.manifest import Manifest, Segment
from strongroom.artifact.segments.buffers import Buffers
from strongroom.artifact.segments.codec import MAX_SEGMENT, Opener, compression, most_stored
from strongroom.artifact.segments.index import load_index
from strongroom.artifact.segments.plan import give_memory_back, plan_threads
from strongroom.artifact.streams.tar import content
from strongroom.artifact.streams.walk import Ranges
from strongroom.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, ManifestInvalid, NotFound, StorageNotFound
from strongroom.sections import Artifact
from strongroom.storage import Store

Progress = Callable[[int, int], None]
"""Called in the reading thread with the numbers of bytes of the stream and of the store read so far."""

_HEAD = 64 * 1024
"""Bytes of an age file that hold its header, unless it has hundreds of recipients."""
REMEDY = "What is stored was changed or lost; restore from another backup, and check the store."


def open_artifact(
    store: Store,
    location: Location,
    identities: Sequence[str] = (),
    *,
    settings: Artifact | None = None,
    on_progress: Progress | None = None,
    manifest: Manifest | None = None,
) -> Reader:
    """The backup at ``location``. ``identities`` are age secret keys; ``settings`` bounds threads and memory.

    ``manifest`` is its manifest, where that was read already.

    Raises ArtifactMissing, ManifestInvalid, CannotDecrypt (before anything is read or written), ConfigurationError, StorageError.
    """
    reader = Reader(store, manifest or load_manifest(store, location), identities, settings=settings, on_progress=on_progress)
    reader.check_identities()
    return reader


class Reader:
    """One backup. Every call of a method reads from the store again."""

    def __init__(
        self,
        store: Store,
        manifest: Manifest,
        identities: Sequence[str] = (),
        *,
        settings: Artifact | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self.manifest = manifest
        self.on_progress = on_progress
        give_memory_back()
        self._store = store
        self._location = manifest.location
        what = f"backup {self._location.prefix}"
        if manifest.segment_size > MAX_SEGMENT or any(s.stored > most_stored(s.raw) for s in manifest.segments):
            raise ManifestInvalid(f"the manifest of {what} contains impossible sizes of segments", remedy=REMEDY)
        self._opener = Opener(identities, what) if manifest.recipients is not None else None
        self._compression = compression(manifest.codec.name, manifest.codec.level)
        self._threads = plan_threads(settings or Artifact(), manifest.segment_size, held=2)
        self._current: SimpleQueue[memoryview | BaseException] | None = None
        self._error: BaseException | None = None

    def check_identities(self) -> None:
        """Raises CannotDecrypt if no identity opens the first segment, of which only the beginning is read."""
        if self._opener is None or not self.manifest.segments:
            return
        with contextlib.suppress(StorageNotFound):  # reported in more detail when the segment is read
            if not self._opener.fits(self._store.get(self.manifest.segment_key(0), length=_HEAD)):
                self._fetch(
                    0, self._new_buffers()
                )  # a damaged header looks like one for other recipients; the hash distinguishes them
                raise self._opener.refusal()

    def chunks(self) -> Generator[memoryview, None, None]:
        """Yield the raw stream, one checked segment at a time.

        Raises ArtifactMissing, ArtifactCorrupt (naming the segment), CannotDecrypt, StorageError, or what ``stop`` was given.
        """
        raw = stored = 0
        for number, found in self.segments(range(len(self.manifest.segments))):
            if isinstance(found, BaseException):
                raise found
            yield found
            raw += len(found)
            stored += self.manifest.segments[number].stored
            if self.on_progress:
                self.on_progress(raw, stored)

    def index(self) -> dict[str, Ranges]:
        """Files of the stream with their ranges. Raises NotFound when the artifact has no index, ArtifactError."""
        if self.manifest.index is None:
            raise NotFound(f"backup {self._location.prefix} has no index of its files")
        return load_index(self._store, self.manifest.index_key, self.manifest.index, self._opener, self.manifest.raw_size)

    def extract(self, paths: Iterable[str]) -> Iterator[memoryview]:
        """Yield the part of the stream with the files ``paths``, as a valid stream (a tar without its end).

        Fetches only the segments that it needs.

        Raises NotFound for a path that is not in the backup, and as ``chunks`` does.
        """
        index = self.index()
        ranges: Ranges = []
        for path in dict.fromkeys(paths):
            if path not in index:
                raise NotFound(f"file {path!r} is not in backup {self._location.prefix}", remedy="See the index for its files.")
            ranges += index[path]
        return self.cut(ranges)

    def cut(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
        """Ranges of the stream, (offset, length) in bytes, in the order of the stream. Raises as ``extract`` does."""
        ordered = sorted(ranges)
        if ordered and max(offset + length for offset, length in ordered) > self.manifest.raw_size:
            raise ArtifactCorrupt(f"the index of backup {self._location.prefix} points beyond its stream", remedy=REMEDY)
        return self._cut(ordered)

    def read(self, path: str) -> bytes:
        """The content of one file of a tar stream. Raises as ``extract`` does."""
        return content(b"".join(self.extract([path])))

    def stop(self, error: BaseException) -> None:
        """Make the thread that waits for a segment raise ``error``. Safe in any thread and in signal handlers."""
        self._error = error
        if self._current is not None:
            self._current.put(error)

    def segments(self, numbers: Iterable[int]) -> Iterator[tuple[int, memoryview | ArtifactError]]:
        """Yield segments in the given order, fetched ahead. A missing or damaged one is yielded as its error.

        Raises CannotDecrypt, StorageError, or what ``stop`` was given.
        """
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="segment")
        todo, buffers = iter(numbers), self._new_buffers()
        ahead: deque[tuple[int, SimpleQueue[memoryview | BaseException]]] = deque()

        def begin(most: int) -> None:
            for number in islice(todo, most):
                answer: SimpleQueue[memoryview | BaseException] = SimpleQueue()
                ahead.append((number, answer))
                pool.submit(self._answer, number, buffers, answer)

        try:
            begin(self._threads)
            while ahead:
                number, self._current = ahead.popleft()
                if self._error is not None:
                    raise self._error
                found = self._current.get()
                if isinstance(found, BaseException) and not isinstance(found, ArtifactCorrupt | ArtifactMissing):
                    raise found
                begin(1)
                yield number, found
        finally:
            self._current = None
            pool.shutdown(wait=False, cancel_futures=True)  # a store that does not answer must not delay an error or a cancel

    def _new_buffers(self) -> Buffers:
        return Buffers(max((segment.raw for segment in self.manifest.segments), default=0))

    # --- in the pool

    def _answer(self, number: int, buffers: Buffers, answer: SimpleQueue[memoryview | BaseException]) -> None:
        try:
            answer.put(self._fetch(number, buffers))
        except BaseException as error:  # noqa: BLE001  (raised again in the caller's thread)
            answer.put(error)

    def _fetch(self, number: int, buffers: Buffers) -> memoryview:
        segment, key = self.manifest.segments[number], self.manifest.segment_key(number)
        try:
            data = self._store.get(key, length=segment.stored + 1)
        except StorageNotFound as error:
            raise ArtifactMissing(f"segment {number} ({self._store.url(key)}) is missing", remedy=REMEDY) from error
        try:
            _check(data, segment)
            if self._opener:
                data = self._opener.open(data)  # frees the encrypted bytes before decompression
            buffer = buffers.lend(segment.raw)
            self._compression.decompress(data, buffer)
            return buffer
        except ArtifactCorrupt as error:
            raise ArtifactCorrupt(f"segment {number} ({self._store.url(key)}) is damaged: {error}", remedy=REMEDY) from error

    # --- single files

    def _cut(self, ranges: Ranges) -> Iterator[memoryview]:
        ends = list(accumulate(segment.raw for segment in self.manifest.segments))
        pieces = list(self._pieces(ranges, ends))
        fetched = self.segments(dict.fromkeys(number for number, _, _ in pieces))
        current, data = -1, memoryview(b"")
        raw = stored = 0
        for number, start, stop in pieces:
            while current != number:
                current, found = next(fetched)
                if isinstance(found, BaseException):
                    raise found
                data = found
                stored += self.manifest.segments[number].stored
            yield data[start:stop]
            raw += stop - start
            if self.on_progress:
                self.on_progress(raw, stored)

    def _pieces(self, ranges: Ranges, ends: list[int]) -> Iterator[tuple[int, int, int]]:
        """Ranges of the stream as ranges of segments: number, start, stop."""
        for offset, length in ranges:
            while length:
                number = bisect_right(ends, offset)
                start = offset - (ends[number] - self.manifest.segments[number].raw)
                step = min(length, ends[number] - offset)
                yield number, start, start + step
                offset, length = offset + step, length - step


def _check(data: bytes, segment: Segment) -> None:
    if len(data) != segment.stored:
        raise ArtifactCorrupt(f"it has {'more' if len(data) > segment.stored else 'fewer'} than {segment.stored} bytes")
    if hashlib.sha256(data).hexdigest() != segment.sha256:
        raise ArtifactCorrupt("its SHA-256 is wrong")
