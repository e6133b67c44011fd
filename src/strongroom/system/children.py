"""Child processes. Tools end together with their worker; sessions (database servers, workers) outlive the agent."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from strongroom.errors import ToolFailed
from strongroom.system.processes import Process, register_child
from strongroom.system.users import Owner, User

SAFE_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PROGRAM_TIMEOUT = 30.0
"""Seconds for a program that only prints something."""


def tool_environment() -> dict[str, str]:
    """The environment of every tool: nothing of this process, so that no secret can leak into it."""
    return {"PATH": SAFE_PATH, "LC_ALL": "C", "TZ": "UTC", "HOME": "/nonexistent"}


def run_program(argv: Sequence[str | Path]) -> subprocess.CompletedProcess[str] | None:
    """Run a program that only prints something; None if it cannot be run or does not end."""
    try:
        return subprocess.run(
            [*argv],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROGRAM_TIMEOUT,
            env=tool_environment(),
            check=False,
            text=True,
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def start_tool(
    argv: Sequence[str | Path],
    *,
    stdout: int,
    stderr: int,
    stdin: int = subprocess.DEVNULL,
    owner: Owner | None = None,
    local_time: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a tool that the kernel kills when the thread that started it dies. Raises ToolFailed without util-linux.

    Root starts it as ``owner``. With ``local_time`` it has the time zone of this process instead of UTC.
    """
    environment = tool_environment()
    if local_time:
        environment.pop("TZ")
        environment |= {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}
    switch = [f"--reuid={owner.uid}", f"--regid={owner.gid}", "--clear-groups"] if owner and os.geteuid() == 0 else []
    try:
        return subprocess.Popen(
            ["setpriv", *switch, "--pdeathsig", "KILL", "--", *map(str, argv)],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=environment,
            cwd="/",
        )
    except FileNotFoundError as error:
        raise ToolFailed("cannot run setpriv", remedy="Install util-linux.") from error


def session_environment(user: User, path: str = "") -> dict[str, str]:
    """The environment of a session of ``user``. ``path`` is put before PATH."""
    inherited = os.environ.get("PATH", SAFE_PATH)
    return {
        "PATH": f"{path}:{inherited}" if path else inherited,
        "LANG": "C.UTF-8",
        "HOME": user.home,
        "USER": user.name,
        "LOGNAME": user.name,
    }


def start_session(
    argv: Sequence[str],
    *,
    user: User,
    become: bool,
    log: int,
    cwd: Path,
    stdin: int = subprocess.DEVNULL,
    tunables: str = "",
    path: str = "",
) -> Process:
    """Start a process in a session of its own, as ``user`` with ``become`` (root only); with output to the descriptor ``log``.

    ``tunables`` are for glibc and this process only. ``path`` is put before PATH. Raises OSError.
    """
    switch = become and os.geteuid() == 0
    child = subprocess.Popen(
        list(argv),
        stdin=stdin,
        stdout=log,
        stderr=log,
        cwd=cwd,
        env=session_environment(user, path) | ({"GLIBC_TUNABLES": tunables} if tunables else {}),
        start_new_session=True,
        umask=0o077,
        user=user.uid if switch else None,
        group=user.gid if switch else None,
        extra_groups=[] if switch else None,
    )
    return register_child(child)
