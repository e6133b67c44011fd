"""Sessions of processes that outlive the agent, and are recognized again by pid, start time and boot."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

_PROC = Path("/proc")
_children: dict[int, subprocess.Popen[bytes]] = {}
"""Sessions that this process started and must reap."""


class Process(BaseModel):
    """The leader of a session. Its pid alone would not identify it: another process may get the same pid later."""

    model_config = ConfigDict(frozen=True)

    pid: int
    start: int
    boot: str

    def is_alive(self) -> bool:
        """Whether it runs. Reaps it if it is a child that has ended."""
        if self.boot != _read_boot_id():
            return False
        _reap(self.pid)
        stat = _read_stat(self.pid)
        return stat is not None and stat.start == self.start and stat.state not in "ZX"

    def is_working_in(self, directory: Path) -> bool:
        """Whether it runs with this working directory."""
        try:
            return self.is_alive() and (_PROC / str(self.pid) / "cwd").readlink() == directory
        except OSError:
            return False

    def measure_age(self) -> float:
        """Seconds since its start."""
        uptime = float((_PROC / "uptime").read_text().split()[0])
        return uptime - self.start / os.sysconf("SC_CLK_TCK")

    def exit_status(self) -> int | None:
        """Its exit status (negative: the signal that killed it); None while it runs or if it was no child of this process."""
        return _reap(self.pid)

    def list_session(self) -> list[int]:
        """Live processes of its session, including itself. Empty if its pid belongs to another process now."""
        if self.boot != _read_boot_id():
            return []
        _reap(self.pid)
        leader = _read_stat(self.pid)
        if leader is not None and leader.start != self.start:
            return []
        return [pid for pid, s in _list_all() if s.session == self.pid and s.start >= self.start and s.state not in "ZX"]

    def interrupt(self) -> None:
        """Send SIGINT to its process group."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGINT)

    def terminate(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send this signal to it alone."""
        if self.is_alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, how)

    def kill_session(self, patience: float = 10.0) -> bool:
        """Send SIGKILL to its whole session and wait. Returns whether all of it has ended."""
        deadline = time.monotonic() + patience
        while members := self.list_session():
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


class _Stat:
    """Fields of /proc/<pid>/stat."""

    __slots__ = ("session", "start", "state")

    def __init__(self, text: str) -> None:
        fields = text.rsplit(")", 1)[1].split()
        self.state = fields[0]
        self.session = int(fields[3])
        self.start = int(fields[19])


def register_child(child: subprocess.Popen[bytes]) -> Process:
    """Remember a child that leads a session of its own, so that it is reaped."""
    # A pid is not used again before its parent has reaped it, and that is this process: no race here.
    process = identify_process(child.pid)
    assert process is not None
    _children[child.pid] = child
    return process


def identify_process(pid: int) -> Process | None:
    """The process that has this pid now."""
    stat = _read_stat(pid)
    return Process(pid=pid, start=stat.start, boot=_read_boot_id()) if stat else None


def find_session(argv: Sequence[str], uid: int) -> Process | None:
    """A live session leader of OS user ``uid`` whose command line begins with ``argv``: options of one start may follow."""
    wanted = b"\0".join(part.encode() for part in argv) + b"\0"
    for pid, stat in _list_all():
        if stat.session == pid and stat.state not in "ZX":
            entry = _PROC / str(pid)
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid and (entry / "cmdline").read_bytes().startswith(wanted):
                    return identify_process(pid)
    return None


def list_processes_in(directory: Path) -> list[int]:
    """Live processes with this working directory: a database server changes to its data directory."""
    found = []
    for pid, stat in _list_all():
        with contextlib.suppress(OSError):
            if stat.state not in "ZX" and (_PROC / str(pid) / "cwd").readlink() == directory:
                found.append(pid)
    return found


def _read_stat(pid: int) -> _Stat | None:
    try:
        return _Stat((_PROC / str(pid) / "stat").read_text(errors="replace"))  # the name of a process may be any bytes
    except OSError:
        return None


def _list_all() -> Iterator[tuple[int, _Stat]]:
    for name in os.listdir(_PROC):  # noqa: PTH208 (names only)
        if name.isdigit() and (stat := _read_stat(int(name))) is not None:
            yield int(name), stat


@cache
def _read_boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _reap(pid: int) -> int | None:
    child = _children.get(pid)
    return None if child is None else child.poll()
