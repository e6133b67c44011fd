"""Fixtures for every room: a short, traversable directory of the test's own, and addresses that no other test has."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support import processes
from support.service import Service

_counter = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long soak tests too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--soak"):
            item.add_marker(pytest.mark.skip(reason="long soak run: pass --soak"))
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users may traverse, with a path short enough for sockets; everything in it is ended after."""
    path = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    processes.end(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def pool(worker_number: int) -> str:
    """A /24 of loopback that belongs to this test of this worker."""
    return f"127.{20 + worker_number % 100}.{next(_counter) % 250}.0/24"


@pytest.fixture(scope="session")
def worker_number() -> int:
    """0 without pytest-xdist, else 1, 2, …"""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw-1")[2:]) + 1


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def serve(place: Path, pool: str, free_port: int) -> Iterator[Callable[..., Service]]:
    """Start a real service in the test's place; keyword arguments are those of ``Service``."""
    started: list[Service] = []

    def start(**options: str) -> Service:
        service = Service(place, pool, free_port, **options)
        started.append(service)
        return service.start()

    yield start
    for service in started:
        if service.process is not None and service.process.poll() is None:
            service.kill()
