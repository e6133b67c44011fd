"""Walks an mbstream (MariaDB) as it passes by: proves that it is whole, and finds where in it each file is.

A stream is a sequence of chunks, numbers little-endian: ``XBSTCK01``, flags (1 byte), type (1), length of the path (4), path,
and by type: ``P`` payload length (8), offset in the file (8), CRC-32 (4), payload; ``S`` seek to an offset (8); ``R`` rename,
length of the new path (4), new path; ``D`` remove; ``E`` end of the file. The tool that unpacks it (mbstream) exits with 0 when a
stream stops between two chunks, or names a file twice, or a path outside: so all that is checked here.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Collection, Iterator

from strongroom.artifact.streams.walk import Ranges, Tap
from strongroom.errors import ArtifactCorrupt, FileTwice

_HEAD = struct.Struct("<8sBcI")
_PAYLOAD = struct.Struct("<QQI")
_MAGIC = b"XBSTCK01"
_REWRITE = 0x02
_MAX_PATH = 512
_MAX_KEPT = 64 * 1024
_END = 16 * 1024
_MAX_HEADER = _HEAD.size + _MAX_PATH + 4 + _MAX_PATH + _PAYLOAD.size


class Mbstream:
    """Feed it the stream in pieces of any size, then ``finish``. Payloads are skipped, never copied.

    Except those of the small files that ``keep`` names: ``kept`` has their content, cut off after 64 KiB; of the files that
    ``keep_end`` names it has the last 16 KiB. Who wants to unpack it
    overrides ``begin``, ``piece``, ``end``, ``rename`` and ``remove``: they are called in the order of the stream.
    """

    def __init__(self, keep: Collection[str] = (), keep_end: Collection[str] = ()) -> None:
        self.kept: dict[str, bytearray] = {}
        self.tap: Tap | None = None
        self._keep = keep
        self._keeping: bytearray | None = None
        self._keep_end = keep_end
        self._end: bytearray | None = None
        self._files: dict[str, array[int]] = {}
        self._open: dict[str, int] = {}
        self._position = 0
        self._skip = 0
        self._held = b""
        self._path = ""

    def begin(self, path: str, *, again: bool) -> None:
        """A file begins; with ``again`` in place of the one of this name that was there before."""

    def piece(self, path: str, offset: int, data: memoryview) -> None:
        """Content of a file that has begun. ``data`` is part of what ``feed`` was given."""

    def end(self, path: str) -> None:
        """The file is whole."""

    def rename(self, old: str, new: str) -> None:
        """A file, whole already, gets another name, in place of what had it."""

    def remove(self, path: str) -> None:
        """A file, all that begin with ``path`` when it ends with ``*``, or a directory goes. It may be missing."""

    def feed(self, data: bytes | memoryview) -> None:
        """The next piece of the stream. Raises ArtifactCorrupt when it cannot be one."""
        view = memoryview(data)
        at = 0
        if self._held:
            held, self._held = self._held, b""
            joined = held + bytes(view[: _MAX_HEADER - len(held)])
            used = self._chunk(memoryview(joined), 0)
            if used is None:
                if len(joined) >= _MAX_HEADER:
                    raise self._malformed("a header without end")
                self._held = joined
                return
            at = used - len(held)
        size = len(view)
        while at < size:
            step = min(self._skip, size - at)
            if step:
                if self._keeping is not None:
                    self._keeping += view[at : at + min(step, _MAX_KEPT - len(self._keeping))]
                if self._end is not None:
                    self._end += view[at + max(0, step - _END) : at + step]
                    del self._end[:-_END]
                self.piece(self._path, self._open[self._path] - self._skip, view[at : at + step])
            at += step
            self._skip -= step
            if at < size:
                used = self._chunk(view, at)
                if used is None:
                    self._held = bytes(view[at:])
                    return
                at += used

    def finish(self) -> None:
        """The stream has ended. Raises ArtifactCorrupt when it is cut off, or when a file of it is."""
        if self._held or self._skip:
            raise self._malformed("it ends within a chunk")
        if self._open:
            raise self._malformed(f"{next(iter(self._open))!r} has no end")
        if not self._files:
            raise self._malformed("it is empty")

    @property
    def files(self) -> int:
        """How many files the stream holds."""
        return len(self._files)

    def ranges(self) -> Iterator[tuple[str, Ranges]]:
        """Each file with the ranges of the stream, (offset, length) in bytes, that make a stream of this file alone."""
        for path, found in self._files.items():
            yield path, list(zip(found[::2], found[1::2], strict=True))

    def _chunk(self, view: memoryview, at: int) -> int | None:
        """Take the header at ``at``: its length, or None when not all of it is there yet."""
        left = len(view) - at
        if left < _HEAD.size:
            return None
        magic, flags, kind, length = _HEAD.unpack_from(view, at)
        if magic != _MAGIC:
            raise self._malformed("a chunk does not begin with its mark")
        if not 0 < length < _MAX_PATH:
            raise self._malformed(f"a path of {length} bytes")
        used: int = _HEAD.size + length
        extra = {b"P": _PAYLOAD.size, b"S": 8, b"R": 4, b"D": 0, b"E": 0}.get(kind)
        if extra is None:
            raise self._malformed(f"a chunk of unknown type {kind!r}")
        if left < used + extra:
            return None
        path = self._safe(view[at + _HEAD.size : at + used])
        payload: int = 0
        if kind == b"R":
            (length,) = struct.unpack_from("<I", view, at + used)
            if not 0 < length < _MAX_PATH:
                raise self._malformed(f"a path of {length} bytes")
            if left < used + extra + length:
                return None
            self._rename(path, self._safe(view[at + used + 4 : at + used + 4 + length]), used + 4 + length)
            extra += length
        elif kind == b"D":
            self._closed(path)
            self._files.pop(path, None)
            self.remove(path)
        else:
            if kind == b"P":
                payload, offset, _crc = _PAYLOAD.unpack_from(view, at + used)
                if self._opened(path, flags) != offset:
                    raise self._malformed(f"a piece of {path!r} is missing")
                self._open[path] = offset + payload
                self._path = path
            elif kind == b"S":
                self._opened(path, flags)
                (self._open[path],) = struct.unpack_from("<Q", view, at + used)
            else:
                self._opened(path, flags)
                del self._open[path]
                self.end(path)
            self._add(path, used + extra + payload)
            self._keeping = self.kept.setdefault(path, bytearray()) if payload and path in self._keep else None
            self._end = self.kept.setdefault(path, bytearray()) if payload and path in self._keep_end else None
        used += extra
        self._position += used + payload
        self._skip = payload
        return used

    def _opened(self, path: str, flags: int) -> int:
        """The offset in the file where its next payload goes."""
        if path not in self._open:
            if path in self._files and not flags & _REWRITE:
                raise FileTwice(
                    f"the backup tool wrote {path!r} twice into its stream (at byte {self._position})",
                    remedy="It does so when the table is created or altered while it runs; back up when no tables are changed.",
                )
            self._open[path] = 0
            self.begin(path, again=path in self._files)
        return self._open[path]

    def _closed(self, path: str) -> None:
        if path in self._open:
            raise self._malformed(f"{path!r} is moved before its end")

    def _add(self, path: str, length: int) -> None:
        found = self._files.setdefault(path, array("Q"))
        if found and found[-2] + found[-1] == self._position:
            found[-1] += length
        else:
            found.extend((self._position, length))

    def _rename(self, old: str, new: str, length: int) -> None:
        self._closed(old)
        self._closed(new)
        if old in self._files:
            self._files[new] = self._files.pop(old)
            self._add(new, length)
            self.rename(old, new)

    def _safe(self, raw: memoryview) -> str:
        path = bytes(raw).decode("utf-8", "surrogateescape")
        if path.startswith("/") or ".." in path.split("/") or "\0" in path:
            raise self._malformed(f"path {path!r} leads outside")
        return path

    def _malformed(self, what: str) -> ArtifactCorrupt:
        return ArtifactCorrupt(
            f"the stream is not a whole mbstream: {what} (at byte {self._position})",
            remedy="The backup tool did not finish, or something stood between it and us; see its log and run the backup again.",
        )
