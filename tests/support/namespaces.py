"""Network namespaces: machines in miniature, each with addresses of its own, on a bridge that has a namespace of its own, too.

Nothing of it touches the machine's own network, so all tests use the same addresses: 10.77.0.0/16.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

NETNS = Path("/var/run/netns")
CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def ip(*arguments: str, at: str | None = None) -> None:
    """``ip`` in the namespace ``at``."""
    where = ("-n", at) if at else ()
    done = subprocess.run(["ip", *where, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join((*where, *arguments))}: {done.stderr.strip()}")


@cache
def missing() -> str:
    """Why there can be no namespaces here; empty when there can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if not shutil.which("ip") or not shutil.which("nsenter"):
        return "iproute2 or util-linux is not installed"
    try:
        Namespace("probe").close()
    except OSError as error:
        return f"network namespaces cannot be made here: {error}"
    return ""


def sweep() -> None:
    """Remove what test runs that were killed have left."""
    for path in NETNS.glob("sr-*") if NETNS.is_dir() else ():
        pid = path.name.split("-")[1]
        if not Path(f"/proc/{pid}").exists():
            with contextlib.suppress(OSError):
                ip("netns", "del", path.name)


class Namespace:
    """A network namespace. ``inside`` is it for the thread that runs; ``prefix`` is it for a command."""

    def __init__(self, name: str) -> None:
        self.name = f"sr-{os.getpid()}-{next(_numbers)}-{name}"
        ip("netns", "add", self.name)
        ip("link", "set", "lo", "up", at=self.name)

    @property
    def prefix(self) -> list[str]:
        return ["nsenter", f"--net={NETNS / self.name}"]

    def ip(self, *arguments: str) -> None:
        ip(*arguments, at=self.name)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes are of the namespace."""
        back = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        there = os.open(NETNS / self.name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(there)
            try:
                yield
            finally:
                _setns(back)
        finally:
            os.close(there)
            os.close(back)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            ip("netns", "del", self.name)


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Network:
    """A bridge in a namespace (``switch``, at 10.77.0.1) and ``count`` machines on it, at 10.77.N.1, N from 1.

    Machine N also has 10.77.N.128/25: a pool for its database servers.
    """

    def __init__(self, count: int) -> None:
        sweep()
        self.machines: dict[int, Namespace] = {}
        self.switch = Namespace("switch")
        try:
            self.switch.ip("link", "add", "br0", "type", "bridge")
            self.switch.ip("addr", "add", "10.77.0.1/16", "dev", "br0")
            self.switch.ip("link", "set", "br0", "up")
            for number in range(1, count + 1):
                self.machines[number] = self._machine(number)
        except OSError:
            self.close()
            raise

    def _machine(self, number: int) -> Namespace:
        machine = Namespace(f"h{number}")
        self.switch.ip("link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", machine.name)
        self.switch.ip("link", "set", f"port{number}", "master", "br0", "up")
        machine.ip("addr", "add", f"10.77.{number}.1/16", "dev", "eth0")
        machine.ip("link", "set", "eth0", "up")
        machine.ip("route", "add", "local", f"10.77.{number}.128/25", "dev", "lo")
        return machine

    def unplug(self, number: int) -> None:
        """Nothing goes to the machine or comes from it."""
        self.switch.ip("link", "set", f"port{number}", "down")

    def plug(self, number: int) -> None:
        self.switch.ip("link", "set", f"port{number}", "up")

    def part(self, one: int, other: int) -> None:
        """These two do not reach each other, all else does."""
        for here, there in ((one, other), (other, one)):
            self.machines[here].ip("route", "add", "blackhole", f"10.77.{there}.0/24")

    def rejoin(self, one: int, other: int) -> None:
        for here, there in ((one, other), (other, one)):
            self.machines[here].ip("route", "del", "blackhole", f"10.77.{there}.0/24")

    def close(self) -> None:
        for namespace in (*self.machines.values(), self.switch):
            namespace.close()
