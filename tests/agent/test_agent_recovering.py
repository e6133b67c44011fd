"""A server that replays its log after a restore is waited for longer than one that does not answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from strongroom.datastores import Facts, Server, get
from strongroom.errors import ServerFailed, StillStarting
from support.agents import AgentMaker, definition


def test_a_server_that_recovers_may_take_longer_than_one_that_is_silent(
    agents: AgentMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = agents(start_timeout=0.2, stall_timeout=5)
    agent.servers.define("s1", definition("s1"))
    lifecycle, record = agent.servers._lifecycle, agent.servers._registry.get("s1")
    began = time.monotonic()

    def recover(server: Server) -> Facts:
        if time.monotonic() - began < 1:
            raise StillStarting("the database system is starting up")
        return Facts(version_number="10.11.1", data_bytes=0, data_dir=Path("/d"))

    def refuse(server: Server) -> Facts:
        raise ServerFailed("nobody answers")

    monkeypatch.setattr(get("mariadb"), "ready", recover, raising=False)
    assert lifecycle.wait_ready(record, None).version_number == "10.11.1"
    assert time.monotonic() - began >= 1
    monkeypatch.setattr(get("mariadb"), "ready", refuse, raising=False)
    began = time.monotonic()
    with pytest.raises(ServerFailed, match="does not serve"):
        lifecycle.wait_ready(record, None)
    assert time.monotonic() - began < 4
