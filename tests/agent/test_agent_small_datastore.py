"""A datastore without SQL administration, clusters and incrementals is one record of parts, with which an agent runs servers.

No real database here is so small, so the test makes one: its server is a program that writes a file when it serves.
"""

from __future__ import annotations

import signal
import sys
import types
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from strongroom import datastores
from strongroom.agent.models import ServerDefinition
from strongroom.datastores import Capabilities, Datastore, Facts, Finding, Server, Sizes, Version, registry
from strongroom.datastores.protocol.placement import EntryPlacement
from strongroom.datastores.toolkit.lineage import ensure_lineage
from strongroom.errors import InvalidRequest, ServerFailed, Unsupported
from strongroom.system.directories import make_directory
from strongroom.system.users import find_user
from support.agents import AgentMaker

_PROGRAM = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text('1.2.3'); time.sleep(600)"


def discover(places: Sequence[Path]) -> list[Version]:
    return [Version(datastore="small", series="1.2", number="1.2.3", programs={"server": Path(sys.executable)})]


class Servers:
    """The only part that the test needs, apart from the placement."""

    ensure_lineage = staticmethod(ensure_lineage)

    def configure(self, server: Server) -> None:
        pass

    def initialize(self, server: Server, data_dir: Path, log: Path) -> None:
        pass

    def build_command(self, server: Server) -> list[str]:
        return [str(server.version.programs["server"]), "-c", _PROGRAM, str(server.data_dir / "serves")]

    def read_facts(self, server: Server) -> Facts:
        if not (server.data_dir / "serves").exists():
            raise ServerFailed("it does not serve yet")
        return Facts(version_number=(server.data_dir / "serves").read_text(), data_dir=server.data_dir)

    def measure(self, data_dir: Path) -> Sizes:
        return Sizes(data_bytes=1)

    def check_data(self, server: Server, data_dir: Path) -> None:
        if not data_dir.is_dir():
            raise ServerFailed("it has no data")

    def examine(self, server: Server) -> Iterator[Finding]:
        return iter(())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[Datastore]:
    part = types.SimpleNamespace()
    made = Datastore(
        name="small",
        default_port=9999,
        default_user="daemon",
        socket_name="small.sock",
        stop_signal=signal.SIGTERM,
        capabilities=Capabilities(incremental=False, log_apply=False),
        servers=Servers(),
        backups=part,  # type: ignore[arg-type]
        restores=part,  # type: ignore[arg-type]
        profiles=part,  # type: ignore[arg-type]
        placement=EntryPlacement(),
    )
    for module, values in {"driver": {"DATASTORE": made}, "server.versions": {"discover": discover}}.items():
        monkeypatch.setitem(sys.modules, f"strongroom.datastores.small.{module}", types.SimpleNamespace(**values))
    monkeypatch.setattr(registry, "_PACKAGES", (*registry._PACKAGES, "small"))
    yield made
    registry.get.cache_clear()


def test_an_agent_runs_servers_of_a_small_datastore(small: Datastore, agents: AgentMaker) -> None:
    assert "small" in datastores.list_names() and datastores.get("small") is small
    agent = agents()
    agent.servers.define("s1", ServerDefinition(name="s1", datastore="small", series="1.2", ram_mb=64))
    server = agent.servers.server("s1")
    make_directory(server.data_dir, find_user(server.user).owner)
    view = agent.servers.start("s1")
    assert (view.state, view.version_number, view.port) == ("running", "1.2.3", 9999)
    with pytest.raises(Unsupported, match="small has no databases and users"):
        agent.servers.serving("s1")
    with pytest.raises(Unsupported, match="no Galera clusters of small"):
        agent.servers.nodes.view("s1")
    assert agent.servers.stop("s1").state == "stopped"


def test_an_unknown_datastore_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="there is no datastore 'large'"):
        datastores.get("large")
