"""Measures processor time and memory of all processes of the benchmark, including those that outlive their parents.

The benchmark runs below a keeper, a process that adopts orphans of its descendants (database servers, workers) and reaps them,
so that no process is missed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")
_INTERVAL = 0.25
"""Seconds between two samples of the memory. Each takes some milliseconds of processor time from the variant."""
SERVERS = frozenset({"mariadbd", "mysqld", "postgres"})
"""Database servers, whose memory does not count for a backup."""


@dataclass(frozen=True, slots=True)
class _Process:
    parent: int
    name: str
    own: float
    """Seconds of processor time. ``reaped``: that of the children that have ended and were waited for."""
    reaped: float
    resident: int


def keep() -> None:
    """Fork, and return in the child. The parent becomes the keeper and exits with the status of the child."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    child = os.fork()
    if child == 0:
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    while True:
        pid, status = os.wait()
        if pid == child:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def cpu_seconds() -> float:
    """The processor time so far of all processes below the keeper, except the benchmark itself."""
    keeper, me = os.getppid(), os.getpid()
    processes = _all()
    below = _below(processes, keeper)
    return processes[keeper].reaped + sum(
        process.reaped + (process.own if pid != me else 0) for pid, process in processes.items() if pid in below
    )


class Memory:
    """Measures by how much the resident memory of all processes except database servers grows at its peak. A context manager."""

    def __init__(self) -> None:
        self.peak = 0
        self._before = {pid: process.resident for pid, process in _all().items()}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        keeper = os.getppid()
        while not self._over.wait(_INTERVAL):
            processes = _all()
            found = (pid for pid in _below(processes, keeper) if processes[pid].name not in SERVERS and pid != os.getpid())
            self.peak = max(self.peak, sum(max(0, processes[pid].resident - self._before.get(pid, 0)) for pid in found))


def _all() -> dict[int, _Process]:
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                head, _, tail = (entry / "stat").read_text().rpartition(")")
                words = tail.split()
                times = [int(word) / _TICK for word in words[11:15]]
                found[int(entry.name)] = _Process(
                    parent=int(words[1]),
                    name=head.partition("(")[2],
                    own=times[0] + times[1],
                    reaped=times[2] + times[3],
                    resident=int(words[21]) * _PAGE,
                )
    return found


def _below(processes: dict[int, _Process], top: int) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, process in processes.items():
        children.setdefault(process.parent, []).append(pid)
    found: set[int] = set()
    todo = list(children.get(top, []))
    while todo:
        pid = todo.pop()
        found.add(pid)
        todo += children.get(pid, [])
    return found
