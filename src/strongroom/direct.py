"""Files that are written past the page cache, where the file system can (``O_DIRECT``).

The copy into the cache costs the processor more than anything else that a restore does, and it pushes out what the databases of
the host had in there. A database that keeps a cache of its own does not miss it.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading

BLOCK = 4096
"""Places, lengths and memory of direct writes are multiples of this, which is as much as any disk asks for."""
PIECE = 1 << 20
"""Bytes of one direct write."""
_LEAST = 256 << 10
"""Bytes from which on a write is worth waiting for the disk."""
_UNSENT = 32 << 20
"""Bytes of one file that may be in the page cache alone."""
_local = threading.local()


class Output:
    """A file, written at any place and from any thread. It owns its descriptor; a sync is still for the caller to call.

    What cannot be written directly is sent to the disk from time to time, so that a sync finds little to do. With ``cached``
    everything goes into the page cache and stays there: for what will be read again, or deleted.
    """

    def __init__(self, fd: int, *, cached: bool = False) -> None:
        self._fd = fd
        self._direct = -1
        self._may = self._send = not cached
        self._lock = threading.Lock()
        self._unsent = 0

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """All of ``data``, at ``offset``. Raises OSError."""
        view = memoryview(data)
        head = min(-offset % BLOCK, len(view))
        body = (len(view) - head) // BLOCK * BLOCK
        if body < _LEAST or not self._opened():
            head = body = 0
        self._cached(offset, view[:head])
        for at in range(head, head + body, PIECE):
            self._past(offset + at, view[at : min(at + PIECE, head + body)])
        self._cached(offset + head + body, view[head + body :])

    def fileno(self) -> int:
        """The descriptor, for whatever else is to be done with the file."""
        return self._fd

    def close(self) -> None:
        """Close the descriptors, once."""
        with self._lock:
            found = {self._fd, self._direct} - {-1}
            self._fd = self._direct = -1
            self._may = False
        for fd in found:
            os.close(fd)

    def _opened(self) -> bool:
        with self._lock:
            if self._may and self._direct < 0:
                try:
                    self._direct = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
                except OSError:
                    self._may = False
            return self._may

    def _past(self, offset: int, data: memoryview) -> None:
        if self._may:
            room = _room()[: len(data)]
            room[:] = data
            try:
                data = data[os.pwrite(self._direct, room, offset) :]  # the rest, if any, is for the cache, and its errors
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._may = False
            offset += len(room) - len(data)
        self._cached(offset, data)

    def _cached(self, offset: int, data: memoryview) -> None:
        self._unsent += len(data)  # some are forgotten when threads meet here
        while data:
            written = os.pwrite(self._fd, data, offset)
            data, offset = data[written:], offset + written
        if self._send and self._unsent >= _UNSENT:
            self._unsent = 0
            os.fdatasync(self._fd)


def _room() -> memoryview:
    """Memory of this thread, at the begin of a page."""
    if not hasattr(_local, "room"):
        _local.room = memoryview(mmap.mmap(-1, PIECE))
    room: memoryview = _local.room
    return room
