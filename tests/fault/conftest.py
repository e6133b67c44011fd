"""The same service as for whole stories, and data large enough that a job can be hit in every phase."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.service import Service


@pytest.fixture
def serve(place: Path, pool: str, free_port: int) -> Iterator[Callable[..., Service]]:
    """Start a service; keyword arguments are those of ``Service``."""
    started: list[Service] = []

    def start(**options: str) -> Service:
        service = Service(place, pool, free_port, **options)
        started.append(service)
        return service.start()

    yield start
    for service in started:
        if service.process is not None and service.process.poll() is None:
            service.kill()


@pytest.fixture
def service(serve: Callable[..., Service]) -> Service:
    return serve(config="[artifact]\nsegment_size = 1048576\n")
