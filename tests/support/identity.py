"""Do something as another OS user, in a process of its own."""

from __future__ import annotations

import os
import pickle
import pwd
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def server_user() -> str:
    """Who servers of tests run as."""
    return "mysql" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def run_as(user: str, function: Callable[..., T], *args: Any) -> T:
    """What ``function`` returns or raises in a forked process of ``user``."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(read)
            if os.geteuid() == 0:
                entry = pwd.getpwnam(user)
                os.setgroups([])
                os.setgid(entry.pw_gid)
                os.setuid(entry.pw_uid)
            os.umask(0o077)
            try:
                outcome: tuple[bool, Any] = (True, function(*args))
            except BaseException as error:
                outcome = (False, error)
            with os.fdopen(write, "wb") as pipe:
                pickle.dump(outcome, pipe)
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    if not data:
        raise RuntimeError(f"the process of {user} died without an answer")
    good, value = pickle.loads(data)
    if not good:
        raise value
    return value
