"""Writes an artifact: a stream comes in, segments go to the store side by side, the manifest goes last."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal

from strongroom.artifact.joined import join
from strongroom.artifact.records.intent import Intent
from strongroom.artifact.records.location import MOST_ATTEMPTS, Location
from strongroom.artifact.records.manifest import MAX_SEGMENTS, Codec, Index, Manifest, Segment
from strongroom.artifact.segments.codec import DEFAULT_LEVEL, Sealer, compression
from strongroom.artifact.segments.index import store_index
from strongroom.artifact.segments.plan import give_memory_back, plan_segment, plan_threads
from strongroom.artifact.source import Pipe, Source
from strongroom.artifact.streams.walk import Format, Tap
from strongroom.artifact.streams.walks import walk_of
from strongroom.artifact.sweep import delete_artifact, list_parts
from strongroom.errors import (
    ArtifactCorrupt,
    ArtifactExists,
    ConfigurationError,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageNotFound,
)
from strongroom.sections import Artifact
from strongroom.storage import Store

_MANIFEST_ATTEMPTS = 4
_FIRST_PAUSE = 0.5
"""Seconds before the manifest is put again; doubled each time. Stores answer a conditional put with a conflict when two meet."""

_MIB = 1024**2
_TOLERANCE = 1.1
"""What is expected is an estimate: files that are no part of a backup are counted, too."""
_MOST_PENDING = 1000
"""Segments that wait to be read back: each takes two kilobytes, and there may be 500,000."""

Progress = Callable[[int, int], None]
"""Called with the bytes of the stream and the bytes in the store so far, from any thread, one call at a time."""


class Writer:
    """One backup on its way into ``store``. Used once: ``open``, ``copy_from``, ``finish``; or ``abort`` at any point.

    As a context manager it opens, and aborts unless it was finished. Nothing is a backup before ``finish`` has returned.
    """

    def __init__(
        self,
        store: Store,
        location: Location,
        settings: Artifact,
        recipients: Sequence[str] = (),
        *,
        stream: Format,
        keep: Collection[str] = (),
        keep_end: Collection[str] = (),
        owner: str = "",
        on_progress: Progress | None = None,
    ) -> None:
        """``recipients`` are age public keys, none for a backup in clear; ``owner`` is the id of this service.

        ``keep`` names files of the stream whose content is wanted in ``kept``, ``keep_end`` those of which the last 16 KiB are.

        Raises ConfigurationError for a bad recipient.
        """
        give_memory_back()
        self._store = store
        self._location = location
        self._recipients = list(recipients)
        self._sealer = Sealer(recipients)
        self._level = settings.level or DEFAULT_LEVEL[settings.codec]
        self._codec = settings.codec
        self._compression = compression(settings.codec, self._level)
        self._stream: Format = stream
        self._walk = walk_of(stream, keep, keep_end)
        self.kept: Mapping[str, bytes | bytearray] = self._walk.kept if self._walk else {}
        """Content of files of the stream that has passed by so far."""
        self._owner = owner
        self._attempt = 0
        self.warnings: list[str] = []
        """What people should know of the store."""
        self._on_progress = on_progress
        self._held = 3 if recipients else 2  # segments at the worst, when nothing can be compressed: raw, compressed, sealed
        self._segment_size = plan_segment(settings, held=self._held)
        self._threads = plan_threads(settings, self._segment_size, held=self._held)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="segment")
        self._free: SimpleQueue[bytearray | None] = SimpleQueue()
        self._done: SimpleQueue[None] = SimpleQueue()
        self._pending = 0
        self._segments: dict[int, tuple[int, int, str, str | None]] = {}
        self._raw = self._stored = self._begun = 0
        self._lock = threading.Lock()
        self._error: BaseException | None = None
        self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._state: Literal["new", "open", "closed"] = "new"
        self._started = datetime.now(UTC)
        self.manifest_sha256 = ""
        """Of the manifest as it was sent to the store, after ``finish``."""
        self.first_byte: float | None = None
        """When the first byte of the stream came (Unix time)."""

    def open(self) -> None:
        """Clear away what a dead attempt left at this location, and leave the intent record.

        Raises ArtifactExists when there is a manifest: then the backup is complete (see ``load_manifest``).
        """
        if self._is_there(self._location.manifest):
            raise ArtifactExists(f"{self._store.url(self._location.manifest)} exists already: the backup is complete")
        self._attempt = self._clear()
        self._state = "open"
        intent = Intent(id=self._location.id, owner=self._owner, started=self._started)
        self._store.put(self._location.intent_of(self._attempt), intent.model_dump_json().encode())

    def _clear(self) -> int:
        """Remove the objects of a dead attempt, and return the number of this one.

        It is 0, unless the store forbids deletion: then this attempt uses its own keys, and nothing is written twice.
        """
        parts = list_parts(self._store, self._location)
        if not parts and not self._is_there(self._location.intent):
            return 0
        try:
            delete_artifact(self._store, self._location)
        except StorageError as error:
            attempt = 1 + max((part.attempt for part in parts), default=0)
            if attempt > MOST_ATTEMPTS:
                raise
            self.warnings.append(f"what an earlier attempt left cannot be removed from the store, and stays: {error.message}")
            return attempt
        return 0

    def _is_there(self, key: str) -> bool:
        try:
            self._store.head(key)
        except StorageNotFound:
            return False
        return True

    def require_capacity(self, expected: int) -> None:
        """Raise ConfigurationError if a stream of about ``expected`` bytes has more segments than a manifest can have.

        So this is known before the first byte, and not after the last segment that fits.
        """
        if expected <= MAX_SEGMENTS * self._segment_size * _TOLERANCE:
            return
        needed = min(1024, -(-expected // MAX_SEGMENTS // _MIB) * 2)
        raise ConfigurationError(
            f"a backup of about {expected >> 40} TiB has more than {MAX_SEGMENTS} segments of {self._segment_size / _MIB:g} MiB",
            remedy=f"Set artifact.segment_size to {needed * _MIB} ({needed} MiB), and artifact.memory to at least "
            f"{(1 + self._held) * needed * _MIB}.",
        )

    def copy_from(self, stream: int | Source, tap: Tap | None = None) -> None:
        """Read ``stream`` (the descriptor of a pipe, or what makes it) to its end.

        Returns when all is read, with the last segments still on their way. ``tap`` looks at the files of a tar; its work is done
        beside that of the segments, and has ended after ``wait``.

        Raises at once what failed in any thread (StorageError), what ``stop`` was given, what the source raises, or
        ArtifactCorrupt when the stream is malformed, cut off or empty.
        """
        source = Pipe(stream, self._wake[0], self._check) if isinstance(stream, int) else stream
        for _ in range(self._threads + 1):
            self._free.put(bytearray(self._segment_size))
        if self._walk:
            self._walk.tap = tap
        number, ended = 0, False
        while not ended:
            buffer = self._free.get()
            self._check()
            assert buffer is not None
            view = memoryview(buffer)
            length = 0
            while length < len(view) and not ended:
                got = source.readinto(view[length:])
                self.first_byte = self.first_byte or time.time()
                length += got
                ended = got == 0
            if length:
                if self._walk:
                    self._walk.feed(view[:length])
                if number >= MAX_SEGMENTS:
                    raise ConfigurationError(
                        f"the backup has more than {MAX_SEGMENTS} segments", remedy="Choose a larger artifact.segment_size."
                    )
                self._submit(self._put, number, buffer, length, tap.take() if tap else None)
                number = self._begun = number + 1
        if self._walk:
            self._walk.finish()
        elif not number:
            raise ArtifactCorrupt("the stream is empty", remedy="Look at the log of the backup tool.")

    def paths(self) -> list[str]:
        """Paths of the files in the stream that has passed by so far."""
        return [path for path, _ in self._walk.ranges()] if self._walk else []

    def wait(self) -> None:
        """Until every segment is stored. Raises what failed in any thread."""
        self._drain()

    def finish(self, **fields: Any) -> Manifest:
        """Wait for every segment, read each back by HEAD, and put the manifest. Call it only when the tool has succeeded.

        ``fields`` are those of Manifest that the writer does not know: kind, datastore, positions, lineage and so on. Raises
        StorageError when a segment is not stored as it was sent.
        """
        self._drain()
        for number in range(len(self._segments)):
            self._submit(self._read_back, number)
            if self._pending >= _MOST_PENDING:
                self._drain()
        self._drain()
        self._pool.shutdown()
        index: Index | None = None
        if self._walk:
            index = store_index(self._store, self._location.index_of(self._attempt), self._walk, self._sealer)
            if index is None:
                self.warnings.append(
                    "the backup has no index, which would be too large, so single files cannot be fetched from it; "
                    "all of it can be restored"
                )
        parts = [self._segments[number] for number in range(len(self._segments))]
        manifest = Manifest(
            id=self._location.id,
            container=self._location.container,
            stream=self._stream,
            index=index,
            codec=Codec(name=self._codec, level=self._level),
            recipients=self._recipients or None,
            attempt=self._attempt or None,
            segment_size=self._segment_size,
            segments=[Segment(raw=raw, stored=stored, sha256=sha256) for raw, stored, sha256, _ in parts],
            raw_size=self._raw,
            stored_size=self._stored,
            started=self._started,
            finished=datetime.now(UTC),
            **fields,
        )
        self._check()
        join(self._store, manifest, [md5 for *_, md5 in parts])
        data = manifest.dump()
        self._put_manifest(data)
        self._require_intent()
        self._close()
        self.manifest_sha256 = hashlib.sha256(data).hexdigest()
        with contextlib.suppress(StorageError):  # beside a manifest the record means nothing
            self._store.delete([self._location.intent_of(self._attempt)])
        return manifest

    def abort(self) -> None:
        """Stop every thread and remove all that was written. Does nothing before ``open`` and after ``finish``.

        Raises StorageError when something could not be removed: then it stays for the sweep.
        """
        began = self._state == "open"
        if self._state != "closed":
            self.stop(StorageError(f"writing of {self._location.prefix} was aborted"))
            self._pool.shutdown(cancel_futures=True)
            self._close()
        if began:
            delete_artifact(self._store, self._location, segments=self._begun, attempt=self._attempt)

    def stop(self, error: BaseException) -> None:
        """Make ``copy_from`` or ``finish``, wherever it waits, raise ``error``. From any thread, and from a signal handler."""
        if self._error is None:
            self._error = error
        if self._state != "closed":
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake[1], b"!")
        self._free.put(None)
        self._done.put(None)

    def __enter__(self) -> Writer:
        try:
            self.open()
        except BaseException:  # Ctrl-C may arrive once the intent record is stored
            self.abort()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.abort()

    # --- in the caller's thread

    def _submit(self, task: Callable[..., None], *arguments: Any) -> None:
        self._pending += 1
        self._pool.submit(self._run, task, arguments)

    def _drain(self) -> None:
        while self._pending:
            self._done.get()
            self._check()
            self._pending -= 1
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _put_manifest(self, data: bytes) -> None:
        """A put that failed may have stored the manifest: only a look can tell. While nobody can tell, nothing is removed."""
        pause = _FIRST_PAUSE
        for attempt in range(1, _MANIFEST_ATTEMPTS + 1):
            try:
                self._store.put(self._location.manifest, data, create=True)
                return
            except StorageError as error:
                try:
                    found = self._store.get(self._location.manifest, length=len(data) + 1)
                except StorageNotFound:
                    if attempt == _MANIFEST_ATTEMPTS or isinstance(error, StorageDenied | StorageFull):
                        raise error from None
                except StorageError:
                    self._close()
                    raise error from None
                else:
                    if found == data:
                        return
                    self._close()  # the other one is a backup
                    raise
            time.sleep(pause)
            pause *= 2

    def _require_intent(self) -> None:
        """Remove the manifest if another process has removed the segments, which ends with the intent record.

        That process looks for a manifest afterwards, so the second one always notices the first.
        """
        try:
            self._store.head(self._location.intent_of(self._attempt))
            return
        except StorageNotFound:
            pass
        except StorageError:
            return  # it proves nothing, and the manifest stands
        for number in range(len(self._segments)):
            try:
                self._store.head(self._location.segment(number, self._attempt))
            except StorageNotFound as error:
                self._store.delete([self._location.manifest])
                raise StorageError(
                    f"segments of {self._location.prefix} were deleted while the backup was written",
                    remedy="Take another backup.",
                ) from error
            except StorageError:
                return

    def _close(self) -> None:
        self._state = "closed"
        for end in self._wake:
            os.close(end)

    # --- in the pool

    def _run(self, task: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            if self._error is None:
                task(*arguments)
        except BaseException as error:  # noqa: BLE001  (raised again in the caller's thread)
            self.stop(error)
        finally:
            self._done.put(None)

    def _put(self, number: int, buffer: bytearray, length: int, look: Callable[[], None] | None) -> None:
        data = self._compression.compress(memoryview(buffer)[:length])
        if look:
            look()
        self._free.put(buffer)
        data = self._sealer.seal(data)
        sha256 = hashlib.sha256(data).hexdigest()
        stat = self._store.put(self._location.segment(number, self._attempt), data)
        with self._lock:
            self._segments[number] = (length, len(data), sha256, stat.md5)
            self._raw += length
            self._stored += len(data)
            if self._on_progress:
                self._on_progress(self._raw, self._stored)

    def _read_back(self, number: int) -> None:
        _, stored, _, md5 = self._segments[number]
        stat = self._store.head(self._location.segment(number, self._attempt))
        if stat.size != stored or (md5 and stat.md5 and stat.md5 != md5):
            raise StorageError(
                f"{self._store.url(stat.key)} is not what was written: {stat.size} bytes of {stored}",
                remedy="Check the store, then run the backup again.",
            )
