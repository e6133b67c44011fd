"""Find and end the processes that a test left below its own directory."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path


def below(place: Path) -> dict[int, str]:
    """Live processes whose command line, working directory or stderr names ``place``: pid → command line."""
    found: dict[int, str] = {}
    needle = str(place)
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            state = (entry / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()[0]
            places = [command, str((entry / "cwd").readlink()), str((entry / "fd" / "2").readlink())]
            if state != "Z" and any(needle in each for each in places):
                found[int(entry.name)] = command
    return found


def end(place: Path, *, patience: float = 10) -> dict[int, str]:
    """SIGKILL everything below ``place``; what was found is returned."""
    first = below(place)
    deadline = time.monotonic() + patience
    while (live := below(place)) and time.monotonic() < deadline:
        for pid in live:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    return first
