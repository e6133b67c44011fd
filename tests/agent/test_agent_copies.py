"""What a profile meets on a host, what is found on an adopted server, and copies that a person activates."""

from __future__ import annotations

import pytest

from strongroom.agent.checks import check_server
from strongroom.agent.models import PlanRequest
from strongroom.artifact import Notice, Profile
from strongroom.datastores import (
    ProfileItem,
    RestoredProfile,
    RestoreTarget,
    Server,
    get,
    read_restored_profile,
    write_restored_profile,
)
from strongroom.errors import NotFound, ServerFailed
from support.agents import AgentMaker, definition, serve, until

EVENTS = Notice(item="events", effect="warn", message="2 events are disabled", remedy="Activate the instance.")
OTHER = Notice(item="memory", effect="warn", message="a MEMORY table is empty")


@pytest.fixture
def items(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = (ProfileItem("events", "disabled", "kept", "they run"), ProfileItem("memory", "warned", "warned", "empty"))
    monkeypatch.setattr(get("mariadb").profiles, "items", rows)


@pytest.mark.usefixtures("items")
def test_an_isolated_copy_is_shown_and_activated(agents: AgentMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = agents()
    pid = serve(agent, "a").pid
    servers = agent.servers
    data = servers.server("a").data_dir
    assert not servers.view("a").isolated
    assert not servers.copies.describe("a").isolated
    servers.copies.activate("a")
    assert servers.view("a").pid == pid, "nothing to activate, nothing to restart"

    write_restored_profile(data, RestoredProfile(profile=Profile(notices=[EVENTS, OTHER]), isolated=True))
    assert servers.view("a").isolated
    found = servers.copies.describe("a")
    assert (found.isolated, found.enables) == (True, [EVENTS])

    # One that does not come up as it is activated is isolated again, and runs.
    with monkeypatch.context() as patch:
        patch.setattr(servers._lifecycle, "wait_ready", lambda *_: (_ for _ in ()).throw(ServerFailed("it does not serve")))
        with pytest.raises(ServerFailed, match="does not serve"):
            servers.copies.activate("a")
    assert servers.view("a").isolated
    until(lambda: _serves(servers.server("a")))

    servers.copies.activate("a")
    restored = read_restored_profile(data)
    assert restored is not None
    assert (restored.isolated, restored.profile.notices) == (False, [EVENTS, OTHER])
    view = servers.view("a")
    assert not view.isolated and view.pid not in (None, pid)
    servers.copies.activate("a")
    assert servers.view("a").pid == view.pid


def _serves(server: Server) -> bool:
    try:
        get("mariadb").servers.read_facts(server)
    except ServerFailed:
        return False
    return True


def test_a_profile_is_compared_with_the_target(agents: AgentMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = agents()
    agent.servers.define("a", definition("a"))
    asked: list[tuple[Profile, RestoreTarget]] = []

    def compare(profile: Profile, target: RestoreTarget) -> list[Notice]:
        asked.append((profile, target))
        return [EVENTS]

    monkeypatch.setattr(get("mariadb").profiles, "compare", compare)
    profile = Profile(settings={"innodb_page_size": "8192"})
    wanted = PlanRequest(profile=profile, datastore="mariadb", series="10.11")
    assert agent.servers.copies.compare(wanted) == [EVENTS]
    assert agent.servers.copies.compare(wanted.model_copy(update={"server": "a", "in_place": True})) == [EVENTS]
    (_, new), (_, in_place) = asked
    assert (new.server, new.in_place, new.version.series) == (None, False, "10.11")
    assert in_place.server is not None
    assert (in_place.server.id, in_place.in_place) == ("a", True)
    with pytest.raises(NotFound):
        agent.servers.copies.compare(wanted.model_copy(update={"server": "b"}))


def test_notices_of_a_profile_are_checks(monkeypatch: pytest.MonkeyPatch, agents: AgentMaker) -> None:
    agent = agents()
    agent.servers.define("a", definition("a"))
    refused = Notice(item="links", effect="refuse", message="base/5 is a link", remedy="Move it back.")
    in_place = Notice(item="undo", effect="refuse_in_place", message="undo logs lie outside")

    def read(_server: Server) -> Profile:
        return Profile(notices=[refused, in_place, OTHER, OTHER], absent=["rows of MEMORY tables"])

    monkeypatch.setattr(get("mariadb").profiles, "read", read)
    found = [(check.level, check.message, check.remedy) for check in check_server(agent.servers.server("a"))]
    assert found == [
        ("error", "it cannot be backed up: base/5 is a link", "Move it back."),
        ("warning", "it cannot be restored in place: undo logs lie outside", ""),
        ("warning", "a MEMORY table is empty", ""),
        ("warning", "not in its backups: rows of MEMORY tables", ""),
    ]

    def fail(_server: Server) -> Profile:
        raise ServerFailed("it does not answer", remedy="Start it.")

    monkeypatch.setattr(get("mariadb").profiles, "read", fail)
    (only,) = check_server(agent.servers.server("a"))
    assert (only.level, only.message, only.remedy) == ("error", "it does not answer", "Start it.")
