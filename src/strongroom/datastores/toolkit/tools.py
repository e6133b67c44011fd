"""Tools, which are programs that a worker runs: they end with the worker, their exit is checked, and they can be aborted."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from strongroom.datastores.toolkit.stall import Progress, Watch, find_pipes
from strongroom.errors import NoSpace, StrongroomError, ToolFailed, ToolStopped
from strongroom.system.children import start_tool
from strongroom.system.users import Owner

GRACE = 5.0
"""Seconds between SIGINT and SIGKILL when a program is aborted."""

_REMEDIES = {
    "No space left on device": "Free space on the file system, or use a larger one.",
    "Too many open files": "Raise the limit of open files of the service (LimitNOFILE in its systemd unit).",
    "Errcode: 24": "Raise the limit of open files of the service (LimitNOFILE in its systemd unit).",
    "Permission denied": "The OS user of the server must be able to read and write its data directory.",
    "Access denied": "Check the credentials of the server, and that the account has the rights that a backup needs.",
    "Lost connection": "The database server ended the connection; see its error log.",
    "server has gone away": "The database server ended the connection; see its error log.",
}

LIMITS = ("Too many open files", "Errcode: 24", "Cannot allocate memory")
FULL = "No space left on device"
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
"""Signals that users and the kernel (out of memory) send; a program that crashes on damaged data receives others."""

_STALLED = (
    "Find out what it waits for: a lock of another session of the database, or a file system that hangs. "
    "A longer `stall_timeout` in [agent] gives it more time."
)


_STRING = r"'(?:\\.?|''|[^'\\\n])*(?:'|$)|\"(?:\\.?|\"\"|[^\"\\\n])*(?:\"|$)"
"""A string; one that is cut off extends to the end of the line."""
_CLAUSES = re.compile(
    rf"\b(?:IDENTIFIED\s+(?:BY|VIA|WITH)|PASSWORD\s*(?:[(=]|FOR\b|(?=E?['\"])))\s*(?:{_STRING}|[^;\n'\"])*",
    re.IGNORECASE | re.MULTILINE,
)
"""Clauses with a password or its hash."""
_QUOTED = re.compile(_STRING, re.MULTILINE)
_HASH = re.compile(r"\*[0-9A-Fa-f]{40}\b|SCRAM-SHA-256\$[^\s'\"]+|\bmd5[0-9a-f]{32}\b|\$[AMP]\$[0-9]{3}\$[^\s'\"]+")


def hide_secrets(text: str) -> str:
    """The text without passwords and hashes, as they occur in statements and results of a database."""
    return _HASH.sub("***", _CLAUSES.sub(lambda clause: _QUOTED.sub("'***'", clause[0]), text))


def read_lines(path: Path, size: int = 8192, *, owner: int | None = None) -> list[str]:
    """The lines of the last ``size`` bytes of a text file; none if it cannot be read, or does not belong to ``owner``."""
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            facts = os.fstat(file.fileno())
            if owner is not None and (not stat.S_ISREG(facts.st_mode) or facts.st_uid != owner or facts.st_nlink != 1):
                return []
            file.seek(max(0, file.seek(0, os.SEEK_END) - size))
            return file.read(size).decode(errors="replace").splitlines()
    except OSError:
        return []


def read_tail(path: Path, lines: int = 8, *, size: int = 8192) -> list[str]:
    """The last non-empty lines of a text file, without secrets; none if it cannot be read."""
    return [hide_secrets(line.rstrip()) for line in read_lines(path, size) if line.strip()][-lines:]


class Tool:
    """One running program with its messages in ``log``. The kernel kills it when the thread that started it ends.

    So start it from the main thread of a worker. ``stdin`` and ``stdout`` are file descriptors; the default is the null device,
    and for ``stdout`` the log. ``owner`` is the user that the program runs as, if the caller is root. A program without progress
    for ``stall_timeout`` is killed, and ``check`` reports it; progress of ``servants``, processes that work for it, counts too.
    ``local_time``: not UTC but the time zone of the host, in which statements of a log may have been executed.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        log: Path,
        *,
        stdin: int | None = None,
        stdout: int | None = None,
        owner: Owner | None = None,
        servants: Sequence[int] = (),
        local_time: bool = False,
    ) -> None:
        self.name = Path(argv[0]).name
        self.log = log
        pipes = find_pipes(stdin, stdout)
        fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = start_tool(
                argv,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=fd if stdout is None else stdout,
                stderr=fd,
                owner=owner,
                local_time=local_time,
            )
        finally:
            os.close(fd)
        self._stalled = ""
        everybody = (self._process.pid, *servants)
        try:
            self._watch = Watch(Progress(lambda: everybody, [log], pipes), self._give_up)
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    @property
    def pid(self) -> int:
        """Process id of the program itself."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def ends(self, patience: float) -> bool:
        """Whether it ends within these seconds. A lost connection is noticed before its process has ended."""
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return False
        return True

    def check(self, mark: str | None = None, *, quiet: bool = False) -> None:
        """Wait for the end. Raises ToolFailed unless the exit status is 0 and the last line of the log ends with ``mark``.

        ``quiet``: the program writes messages only in case of an error, whatever its exit status.
        """
        status = self._process.wait()
        self._watch.stop()
        if self._stalled:
            raise self._failure(self._stalled, stopped=True)
        if status:
            how = f"was killed by {_signal_name(-status)}" if status < 0 else f"failed with exit status {status}"
            raise self._failure(f"{self.name} {how}", stopped=-status in _FROM_OUTSIDE)
        if mark is not None and not "".join(read_tail(self.log, 1)).endswith(mark):
            raise self._failure(f"{self.name} ended without the message {mark!r}")
        if quiet and read_tail(self.log, 1):
            raise self._failure(f"{self.name} reported an error, although its exit status is 0")

    def _give_up(self, idle: float) -> None:
        """Kill a program that hangs."""
        state = _state(self._process.pid)
        self._stalled = f"{self.name} made no progress for {idle:.0f} s ({state}) and was killed; its last messages"
        with suppress(ProcessLookupError):
            self._process.kill()

    def _failure(self, what: str, *, stopped: bool = False) -> StrongroomError:
        lines = read_tail(self.log)
        text = "\n".join(lines)
        remedy = next((remedy for sign, remedy in _REMEDIES.items() if sign in text), _STALLED if self._stalled else "")
        stopped = stopped or any(sign in text for sign in LIMITS)
        kind = NoSpace if FULL in text else ToolStopped if stopped else ToolFailed
        return kind(f"{what}: {text}" if text else what, remedy=remedy)

    def terminate(self) -> None:
        """Ask it to shut down cleanly; ``check`` waits for it."""
        if self._process.poll() is None:
            self._process.terminate()

    def abort(self, grace: float = GRACE) -> None:
        """End it (SIGINT, then SIGKILL) and reap it. May be called at any time, and twice."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            try:
                self._process.wait(grace)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        self._watch.stop()


_STATES = {"T": "it is stopped by a signal", "D": "it waits for a disk", "S": "it waits", "R": "it runs"}


def _state(pid: int) -> str:
    """The state of a process, from the kernel."""
    try:
        letter = Path(f"/proc/{pid}/stat").read_text(errors="replace").rsplit(")", 1)[1].split()[0]
    except OSError:
        return "it has ended"
    return _STATES.get(letter, f"state {letter}")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
