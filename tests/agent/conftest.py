"""An agent of the test's own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from strongroom.agent import Agent
from strongroom.settings import Settings, load
from support.agents import SCRIPT, AgentMaker


@pytest.fixture
def settings_for(place: Path, pool: str) -> Callable[..., Settings]:
    """Settings of an agent; keyword arguments go to its section, but for those of the section [datastores]."""

    def make(name: str = "d", *, datastores: object = None, **agent: object) -> Settings:
        more = {"datastores": datastores} if datastores else {}
        return load(None, service={"data_dir": str(place / name)}, agent={"pool": pool, "cancel_grace": 1, **agent}, **more)

    return make


@pytest.fixture
def agents(place: Path, settings_for: Callable[..., Settings]) -> Iterator[AgentMaker]:
    """Makes and starts agents: on directory ``name``, with ``scripted`` workers, settings of the section [agent]."""
    made: list[Agent] = []
    script = place / "scripted_worker.py"
    script.write_text(SCRIPT)

    def make(name: str = "d", *, scripted: bool = False, **settings: object) -> Agent:
        chosen = {"worker": [sys.executable, "-S", str(script), str(place)]} if scripted else {}
        agent = Agent(settings_for(name, **settings), **chosen)  # type: ignore[arg-type]
        agent.start()
        made.append(agent)
        return agent

    yield make
    for agent in made:
        agent.stop()
