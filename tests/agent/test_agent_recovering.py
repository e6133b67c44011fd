"""A server that replays its log after a restore is waited for longer than one that does not answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from strongroom.artifact import Profile
from strongroom.datastores import Facts, RestoredProfile, Server, get, write_restored_profile
from strongroom.errors import ConfigurationError, ServerFailed, StillStarting
from support.agents import AgentMaker, definition


def test_recovering_server_may_take_longer_than_an_unresponsive_one(agents: AgentMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = agents(start_timeout=0.2, stall_timeout=5)
    agent.servers.define("s1", definition("s1"))
    lifecycle, record = agent.servers._lifecycle, agent.servers._home.registry.get("s1")
    began = time.monotonic()

    def recover(server: Server) -> Facts:
        if time.monotonic() - began < 1:
            raise StillStarting("the database system is starting up")
        return Facts(version_number="10.11.1", data_dir=Path("/d"))

    def refuse(server: Server) -> Facts:
        raise ServerFailed("nobody answers")

    monkeypatch.setattr(get("mariadb").servers, "read_facts", recover)
    assert lifecycle.wait_ready(record, None).version_number == "10.11.1"
    assert time.monotonic() - began >= 1
    monkeypatch.setattr(get("mariadb").servers, "read_facts", refuse)
    began = time.monotonic()
    with pytest.raises(ServerFailed, match="does not serve"):
        lifecycle.wait_ready(record, None)
    assert time.monotonic() - began < 4


def test_restored_server_with_an_old_password_is_not_rolled_back(agents: AgentMaker) -> None:
    agent = agents()
    agent.servers.define("s1", definition("s1"))
    swapper, record = agent.servers._swapper, agent.servers._home.registry.get("s1")
    refused = ConfigurationError("PostgreSQL of own refused the account 'keeper'")
    with pytest.raises(ConfigurationError):  # ours lets us in whatever the data says
        swapper._excuse_refusal(record, refused)
    record.definition = record.definition.model_copy(update={"runtime": "adopted"})
    assert "of the time of the backup" in swapper._excuse_refusal(record, refused)
    record.data_dir.mkdir(parents=True)
    write_restored_profile(record.data_dir, RestoredProfile(profile=Profile(), isolated=True))
    with pytest.raises(ConfigurationError):  # a copy has to be asked to keep still
        swapper._excuse_refusal(record, refused)
