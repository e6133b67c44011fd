"""What an agent sends to a process that it has started."""

from __future__ import annotations

import os
import socket
import stat
import sys

_DESCRIPTORS = 8
"""The most descriptors that an agent sends."""


def receive_spec() -> bytes:
    """The spec. A socket also passes descriptors: the first is the log; the others (such as locks) stay open until the end."""
    if not stat.S_ISSOCK(os.fstat(sys.stdin.fileno()).st_mode):
        return sys.stdin.buffer.read()
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as line:
        order, descriptors, *_ = socket.recv_fds(line, 1, _DESCRIPTORS)
        if descriptors:
            for stream in (sys.stdout, sys.stderr):
                os.dup2(descriptors[0], stream.fileno())
            os.close(descriptors[0])
        while piece := line.recv(1 << 16):
            order += piece
    return order
