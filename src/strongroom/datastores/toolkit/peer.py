"""Acts as another OS user for a moment, for servers that ask the kernel for the peer of a socket."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_SETRESUID = {"x86_64": 117, "aarch64": 147, "riscv64": 147}.get(platform.machine())
_SAME = -1


@contextmanager
def acting_as(uid: int) -> Iterator[None]:
    """Give this thread, and no other, the rights of ``uid``. This works for root only; other users keep their rights.

    The C library changes all threads at once, so the kernel is asked directly.
    """
    if os.geteuid() != 0 or uid == 0 or _SETRESUID is None:
        yield
        return
    _set_effective(uid)
    try:
        yield
    finally:
        _set_effective(0)


def _set_effective(uid: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(_SETRESUID or 0), ctypes.c_int(_SAME), ctypes.c_int(uid), ctypes.c_int(_SAME)):
        raise OSError(ctypes.get_errno(), f"cannot act as OS user {uid}")
