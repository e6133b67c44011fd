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

from strongroom.catalog import open_catalog
from strongroom.settings import load
from support import processes
from support.service import Service

LONGEST_FIRST = ("hosts", "fault", "matrix", "end_to_end", "wire", "docs", "agent")
"""Rooms whose files take minutes, in the order in which they run: one that began last would keep a single worker busy alone."""

_counter = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run the long soak tests too")
    parser.addoption("--alone", action="store_true", help="give each line of the matrix a server of its own")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=_rank)  # the order within a file stays: its tests may share a fixture
    for item in items:
        if item.get_closest_marker("slow") and not config.getoption("--soak"):
            item.add_marker(pytest.mark.skip(reason="long soak run: pass --soak"))
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


def _rank(item: pytest.Item) -> int:
    room = item.path.parent.name
    return LONGEST_FIRST.index(room) if room in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other users may traverse, with a path short enough for sockets; everything in it is ended after."""
    path = Path(tempfile.mkdtemp(prefix="sr-", dir="/tmp"))
    path.chmod(0o711)
    yield path
    processes.end(path)
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def empty_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalog with all its tables: migrating is what takes longest."""
    place = tmp_path_factory.mktemp("catalog")
    open_catalog(load(service={"data_dir": place})).close()
    return place / "catalog.sqlite"


@pytest.fixture
def pool() -> str:
    """A /24 of loopback of this test's own, also when several test runs share the machine."""
    high, low = divmod((os.getpid() * 250 + next(_counter)) % (230 * 250), 250)
    return f"127.{20 + high}.{low}.0/24"


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
