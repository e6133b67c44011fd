"""Progress of programs. A program that waits forever, for a lock or a file system that hangs, is killed.

Progress is what can be observed: messages in its log, bytes that it writes or reads from disk, processor time. A little processor
time does not count, because a program that polls is waiting. A program that waits for the other end of a pipe does not hang:
a slow store keeps it waiting.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import sys
import termios
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_BUSY = 0.02
"""Share of one core that counts as work."""
_LOOKS = 20
"""Number of checks within the time that a program may be without progress."""
_SLOWEST = 10.0
"""Longest time between two checks, in seconds."""


class _Limit:
    seconds = 1800.0


def set_stall_timeout(seconds: float) -> None:
    """Set ``stall_timeout`` of [agent] for all programs that this process starts from now on."""
    _Limit.seconds = seconds


def get_stall_timeout() -> float:
    """Seconds that a program may be without progress."""
    return _Limit.seconds


def list_family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for each in found:
        try:
            tasks = list(Path(f"/proc/{each}/task").iterdir())
        except OSError:
            continue
        for task in tasks:
            try:
                found += [int(child) for child in (task / "children").read_text().split()]
            except OSError:
                continue
    return found


Pipe = tuple[int, int]
"""Device and inode."""


def find_pipes(*descriptors: int | None) -> frozenset[Pipe]:
    """The descriptors that are pipes."""
    found = [os.fstat(each) for each in descriptors if each is not None]
    return frozenset((about.st_dev, about.st_ino) for about in found if stat.S_ISFIFO(about.st_mode))


class Progress:
    """The time since processes or their descendants made progress. ``pids`` returns the processes that exist now.

    ``pipes`` are what ``find_pipes`` found: a process whose input or output is one of them may wait for its other end.
    """

    def __init__(self, pids: Callable[[], Iterable[int]], logs: Sequence[Path] = (), pipes: Collection[Pipe] = ()) -> None:
        self._pipes = pipes
        self._pids = pids
        self._logs = logs
        self._seen: tuple[int, ...] = ()
        self._ticks = 0
        self._since = time.monotonic()

    def idle(self) -> float:
        """Seconds since the last progress that was observed."""
        now = time.monotonic()
        programs = [*self._pids()]
        pids = {member for pid in programs for member in list_family(pid)}
        seen = (*map(_size, self._logs), *_bytes(pids))
        ticks = sum(map(_cpu, pids))
        worked = seen != self._seen or ticks - self._ticks > _BUSY * _TICKS * (now - self._since) + 1
        if worked or any(_waits_for_a_pipe(pid, self._pipes) for pid in programs):
            self._seen, self._ticks, self._since = seen, ticks, now
        return now - self._since


class Watch:
    """Checks a program in a thread, and calls ``end`` once if it made no progress during the whole limit."""

    def __init__(self, progress: Progress, end: Callable[[float], None]) -> None:
        self._progress = progress
        self._end = end
        self._limit = get_stall_timeout()
        self._over = threading.Event()
        threading.Thread(target=self._run, name="stall-watch", daemon=True).start()

    def stop(self) -> None:
        """End the checks, because the program has ended."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(min(self._limit / _LOOKS, _SLOWEST)):
            if (idle := self._progress.idle()) >= self._limit:
                self._end(idle)
                return


def _waits_for_a_pipe(pid: int, pipes: Collection[Pipe]) -> bool:
    """Whether its input is an empty pipe that still has a writer, or its output is a pipe that is not read."""
    for number in (0, 1):
        path = Path(f"/proc/{pid}/fd/{number}")
        try:
            about = path.stat()
            if (about.st_dev, about.st_ino) not in pipes:
                continue
            pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            held = int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
            look = select.poll()
            look.register(pipe, 0)
            is_fed = not any(event & select.POLLHUP for _, event in look.poll(0))
        finally:
            os.close(pipe)
        if held if number else is_fed and not held:
            return True
    return False


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


def _bytes(pids: Iterable[int]) -> tuple[int, int]:
    """Bytes written, and bytes read from disk, without those from the page cache."""
    written = read = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/io").read_text().splitlines()
        except OSError:
            continue
        counters = dict(line.split(": ") for line in lines)
        written += int(counters["wchar"])
        read += int(counters["read_bytes"])
    return written, read


def _cpu(pid: int) -> int:
    """Clock ticks of its threads, and of children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))
