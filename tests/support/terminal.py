"""A real pseudo-terminal for the command line."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios

from support.canned import Canned, spawn


def on_terminal(canned: Canned, *arguments: str, type_in: str = "", width: int = 160) -> tuple[int, str]:
    """Run a command on a real pseudo-terminal; its exit code and everything that it showed."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, width, 0, 0))
    process = spawn(canned, *arguments, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    if type_in:
        os.write(ours, type_in.encode())
    seen = b""
    while True:
        ready, _, _ = select.select([ours], [], [], 30)
        assert ready, "nothing more is shown"
        try:
            chunk = os.read(ours, 65536)
        except OSError:
            break
        if not chunk:
            break
        seen += chunk
    os.close(ours)
    return process.wait(20), seen.decode()
