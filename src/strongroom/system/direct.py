"""Writes files without the page cache (``O_DIRECT``), where the file system supports it.

Copying into the page cache costs more processor time than anything else that a restore does, and it evicts what the databases of
the host have cached. A database with a cache of its own does not need the restored files in the page cache.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading

BLOCK = 4096
"""Offsets, lengths and memory addresses of direct writes are multiples of this, the largest alignment that disks require."""
PIECE = 1 << 20
"""Bytes of one direct write."""
_MIN_DIRECT = 256 << 10
"""Bytes from which a direct write is faster than one through the page cache."""
_MAX_UNSYNCED = 32 << 20
"""Bytes of one file that may be in the page cache and not on the disk."""
_local = threading.local()


class Output:
    """A file that is written at any offset and from any thread. It owns its descriptor. The caller must sync the file.

    Data that cannot be written directly is flushed to the disk at intervals, so that the final sync is short. With ``cached``,
    everything is written to the page cache and stays there: for files that will soon be read or deleted.
    """

    def __init__(self, fd: int, *, cached: bool = False) -> None:
        self._fd = fd
        self._direct = -1
        self._use_direct = self._flush = not cached
        self._lock = threading.Lock()
        self._unsynced = 0

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Write all of ``data`` at ``offset``. Raises OSError."""
        view = memoryview(data)
        head = min(-offset % BLOCK, len(view))
        body = (len(view) - head) // BLOCK * BLOCK
        if body < _MIN_DIRECT or not self._open_direct():
            head = body = 0
        self._write_cached(offset, view[:head])
        for at in range(head, head + body, PIECE):
            self._write_direct(offset + at, view[at : min(at + PIECE, head + body)])
        self._write_cached(offset + head + body, view[head + body :])

    def fileno(self) -> int:
        """The descriptor, for other operations on the file."""
        return self._fd

    def close(self) -> None:
        """Close the descriptors. Further calls do nothing."""
        with self._lock:
            found = {self._fd, self._direct} - {-1}
            self._fd = self._direct = -1
            self._use_direct = False
        for fd in found:
            os.close(fd)

    def _open_direct(self) -> bool:
        with self._lock:
            if self._use_direct and self._direct < 0:
                try:
                    self._direct = os.open(f"/proc/self/fd/{self._fd}", os.O_WRONLY | os.O_DIRECT | os.O_CLOEXEC)
                except OSError:
                    self._use_direct = False
            return self._use_direct

    def _write_direct(self, offset: int, data: memoryview) -> None:
        if self._use_direct:
            buffer = _get_buffer()[: len(data)]
            buffer[:] = data
            try:
                data = data[os.pwrite(self._direct, buffer, offset) :]  # the rest, if any, is written through the page cache
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._use_direct = False
            offset += len(buffer) - len(data)
        self._write_cached(offset, data)

    def _write_cached(self, offset: int, data: memoryview) -> None:
        self._unsynced += len(data)  # approximate: concurrent threads may overwrite each other's sum
        while data:
            written = os.pwrite(self._fd, data, offset)
            data, offset = data[written:], offset + written
        if self._flush and self._unsynced >= _MAX_UNSYNCED:
            self._unsynced = 0
            os.fdatasync(self._fd)


def _get_buffer() -> memoryview:
    """A page-aligned buffer of this thread."""
    if not hasattr(_local, "buffer"):
        _local.buffer = memoryview(mmap.mmap(-1, PIECE))
    buffer: memoryview = _local.buffer
    return buffer
