"""Hosts that are added, join and leave; where instances go. On a real catalog, without agents."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from strongroom import __version__
from strongroom.agent import AgentClient, connection
from strongroom.agent.joining import JoinRequest, Token, proof_of_control, proof_of_host, same
from strongroom.agent.models import ServerDefinition, ServerView
from strongroom.agent.tls import key_pair
from strongroom.catalog import Backup, Cluster, Host, Instance, Job, now, open_catalog
from strongroom.catalog.find import find_job
from strongroom.errors import (
    AgentBroken,
    Conflict,
    Forbidden,
    HostSilent,
    HostTimeout,
    HostUntrusted,
    InvalidRequest,
    NotFound,
    Protected,
    StrongroomError,
    Unavailable,
)
from strongroom.flows import (
    Site,
    check_hosts,
    connect_hosts,
    join_host,
    open_site,
    request_host,
    request_reclaim,
    request_remove_host,
)
from strongroom.flows.hosts import presence as _presence
from strongroom.flows.hosts.placement import Need, place, reader_of
from strongroom.flows.hosts.presence import Presence, retry_while_silent
from strongroom.flows.hosts.reconcile import forget_adopted
from strongroom.flows.kinds.create import request_instance
from strongroom.flows.kinds.lifecycle import request_reset
from strongroom.settings import load
from strongroom.storage import open_store
from support.ends import settle

GB = 1024**3
URL = "https://10.0.0.1:8780"


@pytest.fixture
def control(place: Path) -> Site:
    settings = load(service={"data_dir": place})
    control = open_site(settings, open_catalog(settings), open_store(settings.storage, settings.store_path), {})
    control.queue.start = lambda job: None
    return control


def joined(
    control: Site, name: str, *, series: str = "10.11", memory: int = 8, free: int = 100, programs: Any = (), **row: Any
) -> None:
    """A host that has joined, with GB of memory and disk."""
    versions = [{"datastore": "mariadb", "series": series, "number": f"{series}.1", "programs": dict(programs)}]
    view = {"versions": versions, "memory_bytes": memory * GB, "free_bytes": free * GB}
    with control.catalog.write() as session:
        session.add(Host(**{"name": name, "view": view, "seen": now(), "url": URL, **row}))
    control.agents.connect(name, lambda: None)  # type: ignore[arg-type, return-value]


def asked(token: Token, certificate: str, url: str = URL, name: str | None = None) -> JoinRequest:
    name = name or token.name
    proof = proof_of_host(token.key, name, url, certificate)
    return JoinRequest(name=name, url=url, certificate=certificate, proof=proof, version=__version__)


def test_token_is_valid_once_for_its_host_and_its_certificate(control: Site, place: Path) -> None:
    token, until = request_host(control, "db1")
    assert timedelta(minutes=59) < until - now() <= timedelta(hours=1)
    mine, other = (key_pair(place / name, name).certificate for name in ("a", "b"))
    good = asked(token, mine)
    for bad in (
        good.model_copy(update={"certificate": other}),
        good.model_copy(update={"url": "https://10.0.0.9:8780"}),
        good.model_copy(update={"proof": "0" * 64}),
        asked(token, mine, name="db2"),
        asked(Token.new("db1"), mine),
    ):
        with pytest.raises(Forbidden, match="may not join"):
            join_host(control, bad)
    with control.catalog.read() as session:
        row = session.get(Host, "db1")
        assert row is not None
        assert row.url is None
        assert token.secret not in str(row.token_key)
    reply = join_host(control, good)
    assert same(reply.proof, proof_of_control(token.key, mine, reply.certificate))
    assert control.agents.names == ["db1"]
    with pytest.raises(Forbidden):
        join_host(control, asked(token, other))
    # A new token: the host joins again with other keys. Until then, the previous ones are valid.
    fresh, _ = request_host(control, "db1")
    with control.catalog.read() as session:
        row = session.get(Host, "db1")
        assert row is not None
        assert row.certificate == mine
    assert join_host(control, asked(fresh, other)).certificate == reply.certificate


def test_reply_to_a_join_can_be_requested_again(control: Site, place: Path) -> None:
    token, _ = request_host(control, "db1")
    request = asked(token, key_pair(place / "a", "a").certificate)
    assert join_host(control, request) == join_host(control, request)


def test_agent_joins_with_one_name_and_the_same_version(control: Site, place: Path) -> None:
    mine = key_pair(place / "a", "a").certificate
    first, second = request_host(control, "db1")[0], request_host(control, "db2")[0]
    for version, said in (("0.0.1", "has version 0.0.1, the service has version"), ("", "has version unknown")):
        with pytest.raises(Conflict, match=said):
            join_host(control, asked(first, mine).model_copy(update={"version": version}))
    join_host(control, asked(first, mine))
    with pytest.raises(Conflict, match="has already joined as host db1; it cannot also be host db2"):
        join_host(control, asked(second, mine))
    assert control.agents.names == ["db1"]


def test_lost_keys_of_the_control_plane_are_reported_at_the_start(control: Site, place: Path) -> None:
    token, _ = request_host(control, "db1")
    join_host(control, asked(token, key_pair(place / "a", "a").certificate))
    connect_hosts(control)
    assert not control.agents.lost_keys
    for path in (place / "control-plane").iterdir():
        path.unlink()
    connect_hosts(control)
    assert "keys of this control plane" in control.agents.lost_keys and "db1" in control.agents.lost_keys
    assert [(c.name, c.level) for c in check_hosts(control)] == [("control plane", "error")]


def test_unknown_servers_are_reclaimed(control: Site, place: Path) -> None:
    joined(control, "a")
    instance, _ = request_instance(control, "p", name="x", host="a")
    facts: dict[str, Any] = {"datastore": "mariadb", "series": "10.11", "version_number": "10.11.1", "runtime": "process"}
    facts |= {"wanted": "running", "state": "running", "healthy": True, "data_dir": place, "data_bytes": 3 * GB}
    control.agents.unknown["a"] = [ServerView(id=key, name=name, **facts) for key, name in ((instance.id, "x"), ("s-1", "y"))]
    assert [check.level for check in check_hosts(control)] == ["warning", "warning"]
    with pytest.raises(Conflict, match="is already on host a"):
        request_reclaim(control, "q", "a", instance.id)
    with control.catalog.write() as session:
        row = session.get(Instance, instance.id)
        assert row is not None
        row.deleted = now()
    again = request_reclaim(control, "q", "a", instance.id)
    assert (again.id, again.project, again.deleted, again.state) == (instance.id, "p", None, "running")
    new = request_reclaim(control, "q", "a", "y")
    assert (new.id, new.project, new.name, new.volume_size, new.host) == ("s-1", "q", "y", 3, "a")
    assert control.agents.unknown["a"] == [] and check_hosts(control) == []
    with pytest.raises(NotFound, match="has no unknown server y"):
        request_reclaim(control, "q", "a", "y")
    control.agents.unknown["a"] = [ServerView(id=key, name="z", **facts) for key in ("s-2", "s-3")]
    with pytest.raises(Conflict, match="2 servers of host a are named z"):
        request_reclaim(control, "q", "a", "z")
    assert request_reclaim(control, "q", "a", "s-3").id == "s-3"


def test_agent_forgets_a_server_whose_adoption_was_reset(control: Site, place: Path) -> None:
    """The agent went on with it. One that was an instance for a while is left to people."""

    class Agent:
        def __init__(self) -> None:
            self.forgotten: list[str] = []

        async def delete_server(self, server: str) -> None:
            self.forgotten.append(server)

    joined(control, "a")
    agent: Any = Agent()
    control.agents.connect("a", lambda: agent)
    server = ServerDefinition(datastore="mariadb", series="10.11", runtime="adopted", address="10.0.0.1")
    facts: dict[str, Any] = {"datastore": "mariadb", "series": "10.11", "version_number": "10.11.1", "runtime": "adopted"}
    facts |= {"wanted": "running", "state": "running", "healthy": True, "data_dir": place}
    reset, adopted, going = (request_instance(control, "p", name=name, adopt=server, host="a") for name in "xyz")
    views = [ServerView(id=key, name="n", **facts) for key in (reset[0].id, adopted[0].id, going[0].id, "stranger")]
    request_reset(control, "p", reset[0].id)
    with control.catalog.write() as session:
        settle(session, find_job(session, None, adopted[1].id), None)
        for gone in (adopted[0].id, going[0].id):
            row = session.get(Instance, gone)
            assert row is not None
            row.deleted = now()
    asyncio.run(forget_adopted(control, "a", views))
    assert agent.forgotten == [reset[0].id]


def test_expired_token_and_invalid_address_are_refused(control: Site, place: Path) -> None:
    mine = key_pair(place / "a", "a").certificate
    token, _ = request_host(control, "db1")
    for url in ("http://10.0.0.1:8780", "https://10.0.0.1:8780/x", "https://", "x"):
        with pytest.raises(InvalidRequest, match="not a valid URL of an agent"):
            join_host(control, asked(token, mine, url))
    with control.catalog.write() as session:
        row = session.get(Host, "db1")
        assert row is not None
        row.token_until = now() - timedelta(seconds=1)
    with pytest.raises(Forbidden, match="used or expired"):
        join_host(control, asked(token, mine))


@pytest.mark.parametrize("name", ["", "DB1", "-a", "a b", "a" * 64, "a:b", "../a"])
def test_names_that_no_host_has(control: Site, name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not a valid name of a host"):
        request_host(control, name)


def test_host_with_instances_is_removed_only_if_unreachable_and_forced(control: Site) -> None:
    joined(control, "db1")
    instance, job = request_instance(control, "p", name="a")
    for force, error in ((False, "has instances: a"), (True, "is reachable")):
        with pytest.raises(StrongroomError, match=error):
            request_remove_host(control, "db1", force=force)
    with control.catalog.write() as session:
        row = session.get(Host, "db1")
        assert row is not None
        row.seen = now() - timedelta(minutes=2)
        facts = {"name": "shop", "datastore": "mariadb", "series": "10.11", "wsrep_name": "s"}
        session.add(Cluster(id="c", project="p", protected=True, **facts))
        session.get_one(Instance, instance.id).cluster_id = "c"
    with pytest.raises(Protected, match="cluster shop"):
        request_remove_host(control, "db1", force=True)
    with control.catalog.write() as session:
        session.get_one(Cluster, "c").protected = False
    request_remove_host(control, "db1", force=True)
    assert control.agents.names == []
    with control.catalog.read() as session:
        gone, over = session.get(Instance, instance.id), session.get(Job, job.id)
        assert gone is not None
        assert gone.deleted is not None
        assert over is not None
        assert over.status == "cancelled"
        assert session.get(Host, "db1") is None
    with pytest.raises(NotFound):
        request_remove_host(control, "db1")


def placed(control: Site, **need: Any) -> str:
    with control.catalog.read() as session:
        return place(session, control, Need(**{"datastore": "mariadb", "versions": [], "ram": 512, "disk": GB, **need}))[0]


def test_placement_prefers_the_newest_version_and_the_least_used_host(control: Site) -> None:
    joined(control, "old", series="10.6", memory=64)
    joined(control, "big", memory=16)
    joined(control, "small", memory=4)
    assert placed(control, versions=["10.6"]) == "old"
    assert placed(control) in ("big", "small")
    hosts = [request_instance(control, "p", name=f"i{n}")[0].host for n in range(10)]
    assert sorted(hosts) == ["big"] * 8 + ["small"] * 2  # as their memory is: 4 to 1
    assert placed(control, hosts=["small"]) == "small"


def test_recently_freed_disk_space_counts(control: Site) -> None:
    joined(control, "a", free=0)
    asked: list[str] = []

    def ask() -> None:
        asked.append("a")
        with control.catalog.write() as session:
            row = session.get(Host, "a")
            assert row is not None
            row.view = row.view | {"free_bytes": 100 * GB}

    with pytest.raises(Conflict, match=r"0\.0 GB of disk free"):
        request_instance(control, "p", name="x", host="a")
    control.agents.ask = ask
    assert request_instance(control, "p", name="x", host="a")[0].host == "a"
    assert asked == ["a"]
    request_instance(control, "p", name="y", host="a")
    assert asked == ["a"]


def test_nodes_of_a_cluster_are_spread_and_count_before_they_exist(control: Site) -> None:
    joined(control, "big", memory=16)
    joined(control, "small", memory=4)
    beside: list[str] = []
    for _ in range(3):
        beside.append(placed(control, beside=beside, ram=1024))
    assert sorted(beside) == ["big", "big", "small"]
    with pytest.raises(Conflict, match=r"small has \d+ MB of memory left"):
        placed(control, beside=["small"] * 6, hosts=["small"], ram=1024)


def test_nodes_are_placed_on_hosts_with_their_programs(control: Site) -> None:
    programs = {"server": "/usr/sbin/mariadbd", "galera": "/usr/lib/galera/libgalera_smm.so"}
    joined(control, "bare", memory=64, programs=programs)
    assert placed(control) == "bare"
    with pytest.raises(Conflict, match="bare lacks the scripts wsrep_sst") as refused:
        placed(control, node=True)
    assert "mariadb-server" in (refused.value.remedy or "")
    joined(control, "whole", programs={**programs, "transfer": "/usr/bin/wsrep_sst_common"})
    assert placed(control, node=True) == "whole"


def test_error_names_what_each_host_lacks(control: Site) -> None:
    joined(control, "a-old", series="10.6")
    joined(control, "b-small", memory=1)
    joined(control, "c-full", free=2)
    joined(control, "d-silent", seen=now() - timedelta(minutes=1))
    joined(control, "e-new", view={}, url=None)
    with pytest.raises(Conflict) as refused:
        placed(control, versions=["10.11"], ram=2048, disk=5 * GB)
    assert refused.value.message == (
        "no host can run the instance: a-old does not have mariadb 10.11; b-small has 1536 MB of memory left for instances, not "
        "2048 MB; c-full has 2.0 GB of disk free, not 5.0 GB; d-silent is unreachable; e-new has not joined"
    )
    with pytest.raises(NotFound, match="host x cannot be found"):
        placed(control, hosts=["x"])
    with pytest.raises(NotFound, match="datastore oracle"):
        placed(control, datastore="oracle")
    with pytest.raises(InvalidRequest, match=r"version 9\.9"):
        placed(control, versions=["9.9"])


def test_adoption_needs_a_host_if_there_are_several(control: Site) -> None:
    joined(control, "a")
    joined(control, "b")
    server = ServerDefinition(datastore="mariadb", series="10.11", runtime="adopted", address="10.0.0.1")
    with pytest.raises(InvalidRequest, match="host of the server is not specified"):
        request_instance(control, "p", name="x", adopt=server)
    assert request_instance(control, "p", name="x", adopt=server, host="b")[0].host == "b"


def test_backup_is_read_on_the_host_of_its_instance_or_of_its_datastore(control: Site) -> None:
    def reader(instance: str | None, series: str = "10.11") -> str:
        with control.catalog.read() as session:
            return reader_of(session, control, Backup(instance_id=instance, datastore="mariadb", series=series))

    with pytest.raises(Unavailable, match="no host is available"):
        reader(None)
    joined(control, "a", series="10.6")
    joined(control, "b")
    instance, _ = request_instance(control, "p", name="x", host="a")
    assert [reader(instance.id), reader("gone"), reader(None, "10.6"), reader(None, "9.9")] == ["a", "b", "a", "a"]


class Away:
    """Work that a host does not answer for, ``times`` times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        if self.calls <= self.times:
            raise HostSilent("away")


def test_step_is_repeated_until_its_host_answers_or_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_presence, "RETRY_PAUSE", 0.01)
    monkeypatch.setattr(_presence, "LOOK", 0.01)
    there = Presence(lost_after=60)
    there.expect("h")
    work = Away(2)
    asyncio.run(retry_while_silent(there, "h", work))
    assert work.calls == 3
    lost = Presence(lost_after=0.05)
    lost.expect("h")
    time.sleep(0.1)
    lost.missed("h")
    lost.require("h")  # perhaps this process was suspended
    lost.missed("h")
    with pytest.raises(HostSilent, match="host h has not answered for"):
        asyncio.run(retry_while_silent(lost, "h", Away(10**6)))
    with pytest.raises(HostSilent, match="away"):
        asyncio.run(retry_while_silent(lost, None, Away(10**6)))  # several hosts, or none: what does not answer is raised, later
    ended: list[str] = []

    async def hang() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("ended")

    with pytest.raises(HostSilent, match="host h has not answered for"):
        asyncio.run(retry_while_silent(lost, "h", hang))
    assert ended == ["ended"]

    async def refuse() -> None:
        raise Conflict("no")

    with pytest.raises(Conflict):
        asyncio.run(retry_while_silent(there, "h", refuse))


def test_unreachable_host_shows_the_cause() -> None:
    presence = Presence(lost_after=0.01)
    presence.expect("h")
    time.sleep(0.05)
    for _ in range(2):
        presence.missed("h", HostUntrusted("another certificate", remedy="Join again."))
    with pytest.raises(HostUntrusted, match="another certificate") as lost:
        presence.require("h")
    assert lost.value.remedy.startswith("Join again.")
    presence.heard("h")
    assert presence.cause("h") is None
    presence.require("h")


def test_step_does_not_wait_for_a_hanging_agent_of_a_lost_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stop takes as long as it takes, and the connection of an agent that hangs is alive."""
    monkeypatch.setattr(connection, "LOOK", 0.01)
    presence = Presence(lost_after=0.05)
    presence.expect("h")

    async def hang(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            await asyncio.sleep(60)
        return httpx.Response(200, stream=httpx.ByteStream(b"[]"))

    async def stop() -> None:
        transport = httpx.MockTransport(hang)
        agent = AgentClient("https://h", host="h", transport=transport, require=lambda: presence.require("h"))
        assert await agent.jobs() == []
        stopping = asyncio.create_task(agent.stop_server("s1"))
        await asyncio.sleep(0.1)
        assert not stopping.done()  # nobody has missed it yet
        for _ in range(2):
            presence.missed("h", HostTimeout("the agent of host h did not answer within 10 seconds"))
        with pytest.raises(HostTimeout, match="host h has not answered for"):
            await asyncio.wait_for(stopping, 5)

    asyncio.run(stop())


def test_agent_that_restarts_often_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_presence, "RETRY_PAUSE", 0.01)
    monkeypatch.setattr(_presence, "LOOK", 0.01)
    monkeypatch.setattr(_presence, "PROGRESS", 0.05)
    presence = Presence(lost_after=0.15)
    calls = 0

    async def follow(error: HostSilent, times: int) -> None:
        nonlocal calls
        calls += 1
        if calls <= times:
            await asyncio.sleep(0.1)  # it works with its host for a while before the next restart
            raise error

    asyncio.run(retry_while_silent(presence, "h", lambda: follow(HostSilent("away"), 5)))
    assert calls == 6
    calls = 0
    with pytest.raises(HostTimeout):  # waiting is no progress
        asyncio.run(retry_while_silent(presence, "h", lambda: follow(HostTimeout("slow"), 50)))
    assert calls < 5
    calls = 0
    with pytest.raises(HostSilent):  # a step of a cluster waits for each of the nodes that are away, and is no nearer to its end
        asyncio.run(retry_while_silent(presence, None, lambda: follow(HostSilent("two are away"), 50)))
    assert calls < 5


def test_an_operation_that_crashes_the_agent_every_time_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_presence, "RETRY_PAUSE", 0.001)
    monkeypatch.setattr(_presence, "LOOK", 0.01)
    monkeypatch.setattr(_presence, "PROGRESS", 0.005)
    presence = Presence(lost_after=60)
    calls = 0

    async def crash() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0.02)
        if calls <= 30:
            raise HostSilent("away")

    async def advance() -> object:
        return calls // 5

    with pytest.raises(HostSilent, match=f"was cut {_presence.MOST_CUTS} times during the same operation"):
        asyncio.run(retry_while_silent(presence, "h", crash, progress=still))
    calls = 0
    asyncio.run(retry_while_silent(presence, "h", crash, progress=advance))
    assert calls == 31


async def still() -> object:
    return 0


def test_step_does_not_retry_a_broken_agent_forever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_presence, "RETRY_PAUSE", 0.01)
    calls = 0

    async def ask() -> None:
        nonlocal calls
        calls += 1
        raise AgentBroken("unexpected response (HTTP 500)")

    with pytest.raises(AgentBroken):
        asyncio.run(retry_while_silent(Presence(lost_after=600), "h", ask))
    assert calls == _presence.MOST_BROKEN
