"""OS processes that outlive the agent: started in a session of their own, and known again by pid, start time and boot."""

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

from strongroom.agent._accounts import Account

_PROC = Path("/proc")
_children: dict[int, subprocess.Popen[bytes]] = {}
"""What this process has started and must reap."""


class Process(BaseModel):
    """The leader of a session that we started. A pid alone could be somebody else's by now."""

    model_config = ConfigDict(frozen=True)

    pid: int
    start: int
    boot: str

    def alive(self) -> bool:
        """It runs. Reaps it when it is a child of ours that has ended."""
        if self.boot != _boot_id():
            return False
        _reap(self.pid)
        stat = _stat(self.pid)
        return stat is not None and stat.start == self.start and stat.state not in "ZX"

    def works_in(self, directory: Path) -> bool:
        """It runs, and this is its working directory."""
        try:
            return self.alive() and (_PROC / str(self.pid) / "cwd").readlink() == directory
        except OSError:
            return False

    def age(self) -> float:
        """Seconds since its start."""
        uptime = float((_PROC / "uptime").read_text().split()[0])
        return uptime - self.start / os.sysconf("SC_CLK_TCK")

    def exit_status(self) -> int | None:
        """How it ended (negative: by that signal); none while it runs or when it was not our child."""
        return _reap(self.pid)

    def session(self) -> list[int]:
        """Live processes of its session, itself included. Empty when its pid was given to another process."""
        if self.boot != _boot_id():
            return []
        _reap(self.pid)
        leader = _stat(self.pid)
        if leader is not None and leader.start != self.start:
            return []
        return [pid for pid, s in _all() if s.session == self.pid and s.start >= self.start and s.state not in "ZX"]

    def interrupt(self) -> None:
        """SIGINT to its process group."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGINT)

    def terminate(self, how: signal.Signals = signal.SIGTERM) -> None:
        """This signal to it alone."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, how)

    def kill_session(self, patience: float = 10.0) -> bool:
        """SIGKILL its whole session and wait. True when nothing of it is left."""
        deadline = time.monotonic() + patience
        while members := self.session():
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


def _stat(pid: int) -> _Stat | None:
    try:
        return _Stat((_PROC / str(pid) / "stat").read_text(errors="replace"))  # anybody may name a process as they like
    except OSError:
        return None


def _all() -> Iterator[tuple[int, _Stat]]:
    for name in os.listdir(_PROC):  # noqa: PTH208 (names only)
        if name.isdigit() and (stat := _stat(int(name))) is not None:
            yield int(name), stat


@cache
def _boot_id() -> str:
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _reap(pid: int) -> int | None:
    child = _children.get(pid)
    if child is None:
        return None
    return child.poll()


def identify(pid: int) -> Process | None:
    """The process that has this pid now."""
    stat = _stat(pid)
    return Process(pid=pid, start=stat.start, boot=_boot_id()) if stat else None


def with_command(argv: Sequence[str], uid: int) -> Process | None:
    """A live session leader of OS user ``uid`` whose command line begins so: what is added for one start is not known later."""
    wanted = b"\0".join(part.encode() for part in argv) + b"\0"
    for pid, stat in _all():
        if stat.session == pid and stat.state not in "ZX":
            entry = _PROC / str(pid)
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == uid and (entry / "cmdline").read_bytes().startswith(wanted):
                    return identify(pid)
    return None


def working_in(directory: Path) -> list[int]:
    """Live processes whose working directory is ``directory``: database servers go into their data directory."""
    found = []
    for pid, stat in _all():
        with contextlib.suppress(OSError):
            if stat.state not in "ZX" and (_PROC / str(pid) / "cwd").readlink() == directory:
                found.append(pid)
    return found


def environment(account: Account, path: str = "") -> dict[str, str]:
    """All that a child of ours sees of our environment."""
    ours = os.environ.get("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    return {
        "PATH": f"{path}:{ours}" if path else ours,
        "LANG": "C.UTF-8",
        "HOME": account.home,
        "USER": account.name,
        "LOGNAME": account.name,
    }


def spawn(
    argv: Sequence[str],
    *,
    account: Account,
    become: bool,
    log: int,
    cwd: Path,
    stdin: int = subprocess.DEVNULL,
    tunables: str = "",
    path: str = "",
) -> Process:
    """Start ``argv`` detached, as ``account`` with ``become`` (root only), output to the descriptor ``log``.

    ``tunables`` are for glibc; the children of the process do not get them from us. ``path`` goes before PATH. Raises OSError.
    """
    switch = become and os.geteuid() == 0
    child = subprocess.Popen(
        list(argv),
        stdin=stdin,
        stdout=log,
        stderr=log,
        cwd=cwd,
        env=environment(account, path) | ({"GLIBC_TUNABLES": tunables} if tunables else {}),
        start_new_session=True,
        umask=0o077,
        user=account.uid if switch else None,
        group=account.gid if switch else None,
        extra_groups=[] if switch else None,
    )
    # A pid is not used again before its owner is reaped, and we are the owner: no race here.
    process = identify(child.pid)
    assert process is not None
    _children[child.pid] = child
    return process
