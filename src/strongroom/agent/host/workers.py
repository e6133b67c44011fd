"""Starts the processes that work for the agent: each gets what it has to do, and the locks that it holds, on its stdin."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel

from strongroom.system.children import start_session
from strongroom.system.processes import Process
from strongroom.system.users import current_user

TUNABLES = "glibc.malloc.hugetlb=1"
"""Huge pages for large buffers: a segment of 32 MiB is 16 page faults instead of 8192, a quarter of a restore's time."""


def start_worker(command: Sequence[str], log: int) -> tuple[Process, socket.socket]:
    """Start a process that waits for its work. It ends if the socket, its stdin, is closed before. Raises OSError."""
    line, its_stdin = socket.socketpair()
    try:
        # The worker changes to its OS user later, once it has imported what only root may be able to read.
        process = start_session(
            command, user=current_user(), become=False, log=log, cwd=Path("/"), stdin=its_stdin.fileno(), tunables=TUNABLES
        )
    except BaseException:
        line.close()
        raise
    finally:
        its_stdin.close()
    return process, line


def send_work(line: socket.socket, spec: BaseModel, log: int, locks: Sequence[int], name: str) -> None:
    """Send a worker its spec, in the background, and with it its log and the locks that it holds as long as it lives."""
    with contextlib.suppress(BrokenPipeError):  # it died; that is noticed like any other end
        socket.send_fds(line, [b"\n"], [log, *locks])
    data = spec.model_dump_json().encode()
    threading.Thread(target=_feed, args=(line, data), name=f"feed-{name}", daemon=True).start()


def _feed(line: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError), line:
        line.sendall(data)
