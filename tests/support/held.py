"""Jobs on hosts that are held at a moment: the backup tool is stopped, so that a test can do what it likes meanwhile."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator

from support import processes
from support.hosts import Hosts


@contextlib.contextmanager
def held(hosts: Hosts, host: str) -> Iterator[Callable[[], None]]:
    """The next backup tool on the host is stopped as soon as it is there; call what comes to let it go on. Resumed at the end."""
    pids: list[int] = []

    def wait() -> None:
        until(lambda: bool(pids) or bool(catch()), "a backup tool")

    def catch() -> list[int]:
        for pid, command in processes.below(hosts[host].data_dir).items():
            if command.partition(" ")[0].endswith("mariadb-backup"):
                os.kill(pid, signal.SIGSTOP)
                pids.append(pid)
        return pids

    try:
        yield wait
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def until(condition: Callable[[], bool], what: str, seconds: float = 150) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def begin(hosts: Hosts, instance: str, name: str) -> tuple[str, str]:
    """Ids of a backup and of its job."""
    reply = hosts.service.call("POST", "/backups", {"backup": {"name": name, "instance": instance}})
    return str(reply.json()["backup"]["id"]), reply.headers["Strongroom-Job"]


def workers(hosts: Hosts, host: str) -> list[str]:
    return [c for c in processes.below(hosts[host].data_dir).values() if "mariadb-backup" in c or "strongroom.worker" in c]


def stored(hosts: Hosts, backup: str) -> list[str]:
    return [key for key in hosts.service.objects("database_backups") if backup in key]


def health(hosts: Hosts, instance: str) -> str:
    return str(hosts.service.get(f"/instances/{instance}")["instance"]["operating_status"])
