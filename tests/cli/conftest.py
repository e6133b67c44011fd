"""The command line against a canned service."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from strongroom.cli.app import app
from support.canned import Canned, Running


@pytest.fixture
def running(free_port: int) -> Iterator[Running]:
    it = Running(Canned(url=f"http://127.0.0.1:{free_port}"), free_port)
    it.start()
    yield it
    it.stop()


@pytest.fixture
def canned(running: Running) -> Canned:
    return running.canned


@pytest.fixture
def run(canned: Canned, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command line inside the test, without a terminal."""
    monkeypatch.setenv("STRONGROOM_URL", canned.url)
    monkeypatch.delenv("STRONGROOM_PROJECT", raising=False)

    def invoke(*arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, list(arguments), input=stdin, catch_exceptions=False)

    return invoke
