"""Reads a foreign backup: one thread fetches and hashes it, another decompresses and checks the stream."""

from __future__ import annotations

import contextlib
import hashlib
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from strongroom.artifact.foreign.backups import ForeignBackup, Piece, store_of
from strongroom.artifact.streams.gunzip import gunzip
from strongroom.artifact.streams.walk import Walk
from strongroom.artifact.streams.walks import walk_of
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, StorageNotFound
from strongroom.storage import Store

_PART = 4 * 1024**2
_AHEAD = 3
_REMEDY = "What is stored was changed or lost; restore from another backup, and check the store."


@dataclass(frozen=True, slots=True)
class Contents:
    """The result of reading a backup: pieces with their hashes, size of the stream, kept files, and ranges of all files."""

    pieces: list[Piece]
    raw_size: int
    kept: dict[str, bytes]
    files: dict[str, int]


class ForeignReader:
    """One foreign backup. ``manifest`` describes it like a manifest.

    The stream is proven to be a whole mbstream or tar whose names stay inside while it is read, and by the hashes that are known.
    """

    def __init__(
        self,
        store: Store,
        backup: ForeignBackup,
        *,
        on_progress: Callable[[int, int], None] | None = None,
        keep: Collection[str] = (),
    ) -> None:
        self.manifest = backup
        self.on_progress = on_progress
        self._store = store_of(store, backup.directory)
        self._keep = keep

    def check(self) -> None:
        """Check that every object exists and has not been replaced. Raises ArtifactMissing, ArtifactCorrupt, StorageError."""
        for piece in self.manifest.pieces:
            try:
                stat = self._store.head(piece.key)
            except StorageNotFound as error:
                raise ArtifactMissing(f"{self._store.url(piece.key)} is missing", remedy=_REMEDY) from error
            etag = stat.etag.strip('"') if stat.etag else None
            if stat.size != piece.size or (piece.etag and etag and etag != piece.etag):
                raise ArtifactCorrupt(f"{self._store.url(piece.key)} was replaced", remedy=_REMEDY)

    def chunks(self) -> Generator[bytes, None, None]:
        """The raw stream. Raises ArtifactMissing, ArtifactCorrupt, StorageError."""
        yield from self._run(_Hashes(self.manifest.pieces), self._walk())

    def read(self) -> Contents:
        """Read everything and return its contents. Raises the errors of ``chunks``."""
        hashes, walk = _Hashes(self.manifest.pieces, everything=True), self._walk()
        raw_size = sum(len(chunk) for chunk in self._run(hashes, walk))
        kept = {name: bytes(data) for name, data in walk.kept.items()}
        files = {name: sum(length for _, length in ranges) for name, ranges in walk.ranges()}
        return Contents(hashes.found, raw_size, kept, files)

    def _walk(self) -> Walk:
        walk = walk_of(self.manifest.stream, self._keep)
        assert walk is not None
        return walk

    def _run(self, hashes: _Hashes, walk: Walk) -> Generator[bytes, None, None]:
        raw = 0
        try:
            with contextlib.closing(self._stored(hashes)) as stored:
                for chunk in gunzip(stored) if self.manifest.packed else stored:
                    walk.feed(chunk)
                    yield chunk
                    raw += len(chunk)
                    if self.on_progress:
                        self.on_progress(raw, hashes.bytes)
            walk.finish()
        except ArtifactCorrupt as error:
            raise ArtifactCorrupt(f"{self.manifest.id}: {error.message}", remedy=_REMEDY) from error

    def _stored(self, hashes: _Hashes) -> Generator[bytes, None, None]:
        """Yield the stored bytes in order, fetched ahead by one thread, because the hashes need the order."""
        todo = self._ranges()
        pool = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        ahead: deque[Future[bytes]] = deque()

        def begin(most: int) -> None:
            ahead.extend(pool.submit(self._fetch, *what, hashes) for what in islice(todo, most))

        try:
            begin(_AHEAD)
            while ahead:
                data = ahead.popleft().result()
                begin(1)
                yield data
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # a store that does not answer must not delay an error or a cancel

    def _ranges(self) -> Iterator[tuple[int, int, int]]:
        for number, piece in enumerate(self.manifest.pieces):
            for start in range(0, piece.size, _PART):
                yield number, start, min(_PART, piece.size - start)

    def _fetch(self, number: int, start: int, length: int, hashes: _Hashes) -> bytes:
        piece = self.manifest.pieces[number]
        try:
            data = self._store.get(piece.key, start=start, length=length)
        except StorageNotFound as error:
            raise ArtifactMissing(f"{self._store.url(piece.key)} is missing", remedy=_REMEDY) from error
        if len(data) != length:
            raise ArtifactCorrupt(f"{self._store.url(piece.key)} has become shorter")
        hashes.feed(number, data, last=start + length == piece.size)
        return data


class _Hashes:
    """Computes the hashes of the pieces and compares them with the known ones; ``everything`` computes also unknown ones."""

    def __init__(self, pieces: list[Piece], *, everything: bool = False) -> None:
        self.bytes = 0
        self.found: list[Piece] = list(pieces)
        self._everything = everything
        self._running: dict[str, Any] = {}

    def feed(self, number: int, data: bytes, *, last: bool) -> None:
        piece = self.found[number]
        if not self._running:
            names = ("md5", "sha256") if self._everything else ("sha256",) if piece.sha256 else ("md5",) if piece.md5 else ()
            self._running = {name: hashlib.new(name, usedforsecurity=False) for name in names}
        for running in self._running.values():
            running.update(data)
        self.bytes += len(data)
        if last:
            digests = {name: running.hexdigest() for name, running in self._running.items()}
            self._running = {}
            for name, digest in digests.items():
                if getattr(piece, name) not in (None, digest):
                    raise ArtifactCorrupt(f"the {name.upper()} of {piece.key} is wrong")
            self.found[number] = piece.model_copy(update=digests)
