"""Break things at a chosen moment of a job, and watch that no rule is broken meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from support import processes
from support.service import Refused, Service

TOOLS = ("mariadb-backup", "mariabackup", "pg_basebackup")
"""Programs that take and prepare backups."""


def kill_workers(service: Service) -> int:
    """kill -9 every worker of the service; how many there were."""
    pids = service.workers()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(pids)


def kill_service(service: Service) -> int:
    """kill -9 the whole service, and start it again."""
    service.kill()
    service.start()
    return 1


def kill_everything(service: Service) -> int:
    """kill -9 the service and its workers at once, as a power cut does to processes; start it again."""
    service.kill()
    hit = kill_workers(service)
    service.start()
    return hit + 1


def resume_signalled(pid: int, seconds: float = 30) -> None:
    """Let a stopped process go on, once a signal waits for it: a cancel reaches a worker a moment after it was asked for."""
    deadline = time.monotonic() + seconds
    while not any(int(line.split()[1], 16) for line in _status(pid) if line.startswith(("SigPnd", "ShdPnd"))):
        assert time.monotonic() < deadline, "no signal came"
        time.sleep(0.01)
    os.kill(pid, signal.SIGCONT)


def _status(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/status").read_text().splitlines()


def duration(service: Service, begin: Callable[[], str]) -> float:
    """Seconds that the job takes when nothing disturbs it."""
    started = time.monotonic()
    service.wait(begin())
    return time.monotonic() - started


def hit(service: Service, begin: Callable[[], str], after: float, blow: Callable[[Service], int]) -> dict[str, object]:
    """Begin a job, strike ``after`` seconds later, and follow the job to whatever end it comes to."""
    job = begin()
    time.sleep(after)
    blow(service)
    return service.wait(job, expect=None)


@contextlib.contextmanager
def one_tool_at_a_time(place: Path) -> Iterator[list[str]]:
    """Watch the tools below ``place``: a backup or prepare running beside another one is recorded."""
    wrong: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            tools = [c for c in processes.below(place).values() if c.partition(" ")[0].endswith(TOOLS)]
            if len(tools) > 1:
                wrong.append(" | ".join(tools))
            time.sleep(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield wrong
    stop.set()
    thread.join()


def backup_soon(service: Service, instance: str, name: str) -> dict[str, Any]:
    """A backup of a server that serves, though the service may not have noticed yet."""
    for _ in range(100):
        try:
            return service.backup(instance, name)
        except Refused as refused:
            assert "is starting" in refused.message
            time.sleep(0.2)
    raise AssertionError("it is never told to serve")
