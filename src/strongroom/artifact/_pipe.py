"""Writing a stream into a pipe."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Generator

_PIPE = 1024**2


def pour(chunks: Generator[bytes, None, None], fd: int) -> None:
    """Write all ``chunks`` into the pipe ``fd``, and close the generator. Raises what it raises, and BrokenPipeError."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE)
    with contextlib.closing(chunks):
        for chunk in chunks:
            view = memoryview(chunk)
            while view:
                view = view[os.write(fd, view) :]
