"""A Galera cluster over three hosts: spread, restored, cut off, brought back. Its nodes share nothing but the network."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pymysql
import pytest

from support import processes
from support.agents import until
from support.cluster import CONFIG, Shop, Sums
from support.hosts import Hosts
from support.service import Failed, Refused, checksums

pytestmark = pytest.mark.root
HOSTS = 3
LOST_AFTER = 12
AGENTS = f"start_timeout = 60\nstop_timeout = 10\n{CONFIG}"
SMALL = "h3"
"""The host with a disk of its own, that can be full."""


class SpreadShop(Shop):
    """The cluster ``shop``, a node on each host."""

    def __init__(self, hosts: Hosts) -> None:
        self.hosts = hosts
        super().__init__(hosts.service)

    def host(self, node: str) -> str:
        """Where the node is."""
        return str(next(each["host"] for each in self.view["instances"] if each["node"] == node))

    @contextlib.contextmanager
    def sql(self, number: int) -> Iterator[pymysql.Connection[Any]]:
        with self.hosts.sql(self.ids[number]) as connection:
            connection.cursor().execute("SET SESSION wsrep_sync_wait = 1")
            yield connection

    def pids(self) -> list[int]:
        return [
            pid
            for host in self.hosts.hosts.values()
            for pid, command in processes.below(host.data_dir / "instances").items()
            if "/my.cnf" in command and "mariadbd" in command
        ]

    def reboot(self, *names: str) -> None:
        """Start the agents of these hosts, which are dead, and wait until they serve."""
        starts = {name: self.starts(name) for name in names}
        for name in names:
            self.hosts[name].start_agent()
        until(lambda: all(self.starts(name) > count for name, count in starts.items()), 60)

    def starts(self, name: str) -> int:
        """How often the agent of the host has come to serve."""
        return self.hosts[name].log.read_text().count("agent serves")

    def begin(self, backup: str, **wish: Any) -> str:
        """The job of a restore."""
        return self.post("restore", {"restore": {"backupRef": backup, **wish}})

    def come_to(self, job: str, *phases: str) -> None:
        """Wait until the job is in one of the phases, or beyond."""
        until(lambda: self.service.job(job)["phase"].startswith((*phases, "done")), 120)


@pytest.fixture(scope="module")
def shared_place(shared_place: Path) -> Iterator[Path]:
    disk = shared_place / SMALL
    disk.mkdir(0o711)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500m,mode=0711", "strongroom-test", str(disk)], check=True)
    yield shared_place
    processes.end(disk)
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture(scope="module")
def shop(hosts: Hosts) -> SpreadShop:
    return SpreadShop(hosts)


def test_nodes_are_spread_over_the_hosts(shop: SpreadShop, hosts: Hosts) -> None:
    view = shop.view
    assert {node["host"] for node in view["instances"]} == set(hosts.hosts)
    until(lambda: {node["state"] for node in shop.view["instances"]} == {"Synced"})  # a donor is Synced again a moment later
    for node in view["instances"]:
        (address,) = shop.service.get(f"/instances/{node['id']}")["instance"]["ip"]
        assert address.startswith(f"10.77.{hosts[node['host']].number}.")
    with shop.sql(0) as connection:
        shop.require(checksums(connection))


def test_a_chain_is_restored_on_every_host(shop: SpreadShop) -> None:
    full = shop.backup("monday")
    expected = shop.write("tuesday")
    child = shop.backup("tuesday", incremental=True)
    assert (child["kind"], child["parent_id"], child["instance_id"]) == ("incremental", full["id"], full["instance_id"])
    shop.write("lost")
    before = shop.view["uuid"]
    job = shop.restore("tuesday")
    assert job["output"]["method"] == "seed"
    assert not job["output"].get("warnings")
    shop.require(expected)
    assert shop.view["uuid"] != before
    shop.require_full_next()
    shop.service.wait(shop.post("discard_old"))


def test_all_hosts_lose_power(shop: SpreadShop, hosts: Hosts) -> None:
    expected = shop.write("before the cut")
    pids = shop.pids()
    assert len(pids) == HOSTS
    for host in hosts.hosts.values():
        host.kill_agent()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    shop.reboot(*hosts.hosts)
    shop.service.wait(shop.post("recover"), 240)
    shop.require(expected)


def test_an_agent_dies_in_three_phases_and_the_restore_comes_to_its_end(shop: SpreadShop, hosts: Hosts) -> None:
    expected = shop.write("before the deaths")
    shop.backup("deaths")
    shop.write("lost")
    job = shop.begin("deaths")
    phases = ["prepare", "verify", "stop", "swap", "bootstrap", "join", "check"]
    for phase in ("prepare", "swap", "join node3"):
        shop.come_to(job, phase, *phases[phases.index(phase.split()[0]) + 1 :])
        hosts.restart_agent(shop.host("node3"))
    shop.service.wait(job, 300)
    shop.require(expected)
    shop.service.wait(shop.post("discard_old"))


def test_a_host_that_is_cut_off_is_left_out_and_its_old_data_never_serves(shop: SpreadShop, hosts: Hosts) -> None:
    expected = shop.write("cut off")
    shop.backup("cut-off", node="node1")
    shop.write("lost")
    cut = shop.host("node3")
    hosts.partition(cut)
    try:
        hosts.wait_status(cut, "silent", 30)
        with pytest.raises(Refused, match=f"unreachable nodes: node3 on host {cut}") as refused:
            shop.restore("cut-off")
        assert "--without node3" in refused.value.remedy
        job = shop.restore("cut-off", without=["node3"])
        assert job["output"]["nodes"] == 2
        new = shop.view["uuid"]
    finally:
        hosts.heal(cut)
    hosts.wait_status(cut, "up")
    until(lambda: shop.service.get(f"/instances/{shop.ids[2]}")["instance"]["status"] == "SHUTDOWN", 60)
    assert len(shop.pids()) == HOSTS - 1
    shop.service.wait(shop.post("recover"), 240)
    shop.require(expected)
    assert shop.view["uuid"] == new


def test_a_host_that_is_cut_off_while_it_prepares_ends_the_restore_and_nobody_notices(shop: SpreadShop, hosts: Hosts) -> None:
    expected = shop.write("in the middle")
    shop.backup("in-the-middle", node="node1")
    pids = shop.pids()
    job = shop.begin("in-the-middle")
    shop.come_to(job, "prepare")
    cut = shop.host("node3")
    hosts.partition(cut)
    try:
        ended = shop.service.wait(job, 120, expect="failed")
    finally:
        hosts.heal(cut)
    assert ended["fault"]["message"].startswith(f"node3: host {cut} has not answered for")
    hosts.wait_status(cut, "up")
    shop.require(expected)
    assert shop.pids() == pids
    shop.backup("after-all")


def test_a_full_disk_ends_a_restore_before_anybody_notices(shop: SpreadShop, hosts: Hosts) -> None:
    expected: Sums = shop.write("full")
    shop.backup("full", node="node1")
    pids = shop.pids()
    node = next(each["node"] for each in shop.view["instances"] if each["host"] == SMALL)
    place = hosts[SMALL].data_dir
    ballast = place / "ballast"
    for left in (40 << 20, 110 << 20, None):  # less than the data; than what a server needs beside it; full in the middle
        if left is not None:
            _fill(ballast, left)
        job = shop.begin("full")
        try:
            if left is None:
                until(lambda: list(place.glob("instances/*/data.new-*")), 60)
                _fill(ballast, 0)
            ended = shop.service.wait(job, 240, expect="failed")
        finally:
            ballast.unlink(missing_ok=True)
        assert ended["fault"]["message"].startswith(f"{node}: ")
        assert shop.pids() == pids
        shop.require(expected)
        new = [path.name for each in hosts.hosts.values() for path in each.data_dir.glob("instances/*/data.new-*")]
        assert new == [] or left is None  # an agent that could not even note what it began: the next restore removes it


def _fill(ballast: Path, left: int) -> None:
    """Leave no more than so many bytes free on its disk, on which others write meanwhile."""
    with ballast.open("wb") as file:
        while (more := os.statvfs(ballast.parent).f_bavail * 4096 - left) > 0:
            with contextlib.suppress(OSError):  # it was taken by somebody else just now
                os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, min(more, 8 << 20))


def test_hosts_that_do_not_see_each_other_while_we_see_all(shop: SpreadShop, hosts: Hosts) -> None:
    expected = shop.write("parted")
    shop.backup("parted", node="node2")
    alone = shop.host("node1")
    others = [name for name in hosts.hosts if name != alone]
    pids = shop.pids()
    for other in others:
        hosts.part(alone, other)
    try:
        until(lambda: _state(shop, "node1") != "Synced" and _state(shop, "node2") == "Synced", 60)
        assert all(hosts.view(name)["status"] == "up" for name in hosts.hosts)
        with hosts.sql(shop.ids[0]) as connection, pytest.raises(pymysql.MySQLError):
            connection.cursor().execute("UPDATE db1.customers SET note = 'of one part' WHERE id = 1")
        with pytest.raises(Refused, match=r"node1.*not Synced"):
            shop.backup("of-one-part", node="node1")
        assert shop.backup("of-the-others")["instance_id"] != shop.ids[0]
        for wish in (lambda: shop.restore("parted"), lambda: shop.service.wait(shop.post("recover"))):
            with pytest.raises(Failed, match=f"node1 on {alone} cannot reach node2 on {shop.host('node2')}"):
                wish()
        assert shop.pids() == pids  # nobody was stopped or begun anew
        with hosts.sql(shop.ids[1]) as connection:
            assert checksums(connection) == expected
    finally:
        for other in others:
            hosts.rejoin(alone, other)
    until(lambda: shop.view["status"] == "HEALTHY", 90)
    shop.require(expected)


def _state(shop: SpreadShop, node: str) -> str:
    return str(next(each["state"] for each in shop.view["instances"] if each["node"] == node))


def test_a_backup_of_one_host_makes_a_smaller_cluster_on_others(shop: SpreadShop, hosts: Hosts) -> None:
    expected = shop.write("fewer")
    away = shop.host("node3")
    shop.backup("fewer", node="node3")
    rest = [name for name in hosts.hosts if name != away]
    flags = [word for name in rest for word in ("--host", name)]
    shop.service.cli("cluster", "create", "two", "--nodes", "2", "--backup", "fewer", *flags)
    nodes = shop.service.get("/clusters/two")["cluster"]["instances"]
    assert sorted(node["host"] for node in nodes) == rest
    assert {node["state"] for node in nodes} == {"Synced"}
    assert len({node["position"].split(":")[0] for node in nodes}) == 1
    assert nodes[0]["position"].split(":")[0] != shop.view["uuid"]
    for node in nodes:
        with hosts.sql(node["id"]) as connection:
            assert checksums(connection) == expected
    shop.service.cli("cluster", "restore", "two", "--backup", "fewer", "--yes")
    for node in nodes:
        with hosts.sql(node["id"]) as connection:
            assert checksums(connection) == expected
    shop.service.cli("cluster", "delete", "two", "--yes")
    shop.require(expected)


def test_a_host_that_is_lost_in_the_outage_does_not_keep_the_others_down(shop: SpreadShop, hosts: Hosts) -> None:
    expected = shop.write("lost in the outage")
    shop.backup("lost", node="node1")
    cut = shop.host("node3")
    job = shop.begin("lost")
    shop.come_to(job, "stop", "swap", "bootstrap")
    hosts.partition(cut)
    try:
        assert "node3" in shop.service.wait(job, 240, expect="failed")["fault"]["message"]
        with pytest.raises(Failed, match="node3"):
            shop.service.wait(shop.post("recover"), 240)
        shop.service.wait(shop.post("recover", {"recover": {"force": True}}), 240)
        with shop.sql(0) as connection:
            assert checksums(connection) == expected
    finally:
        hosts.heal(cut)
    hosts.wait_status(cut, "up")
    shop.service.wait(shop.post("recover"), 240)
    shop.require(expected)


def test_a_host_that_was_ahead_and_given_up_never_joins_with_its_data(shop: SpreadShop, hosts: Hosts) -> None:
    """Galera would take it in by its position, once the others have come as far: with other rows, and without a word."""
    before = shop.write("given up")
    hosts_of = {node: shop.host(node) for node in ("node1", "node2", "node3")}
    epoch = shop.view["epoch"]
    for node in ("node1", "node2"):
        host = hosts[hosts_of[node]]
        host.kill_agent()
        for pid in _servers(host.data_dir):
            os.kill(pid, signal.SIGTERM)  # in good order: the last one goes on alone
        until(lambda at=host.data_dir: not _servers(at), 60)
    with hosts.sql(shop.ids[2]) as connection:
        for _ in range(5):
            connection.cursor().execute("UPDATE db1.customers SET note = CONCAT('ahead ', note) WHERE id % 5 = 0")
    lost = hosts[hosts_of["node3"]]
    lost.kill_agent()
    for pid in _servers(lost.data_dir):
        os.kill(pid, signal.SIGKILL)
    hosts.partition(lost.name)
    hosts.wait_status(lost.name, "silent", 30)
    shop.reboot(hosts_of["node1"], hosts_of["node2"])
    for name in (hosts_of["node1"], hosts_of["node2"]):
        hosts.wait_status(name, "up", 60)
    done = shop.service.wait(shop.post("recover", {"recover": {"force": True}}), 240)["output"]
    assert done["positions"].keys() == {"node1", "node2"}, done
    assert [warning.partition(",")[0] for warning in done["warnings"]] == ["node3 was left out"]
    assert shop.view["epoch"] == epoch + 1
    with shop.sql(0) as connection:
        assert checksums(connection) == before
        for _ in range(20):  # further than the lost one was
            connection.cursor().execute("UPDATE db1.customers SET note = CONCAT('later ', note) WHERE id % 3 = 0")
        expected = checksums(connection)
    hosts.heal(lost.name)
    lost.start_agent()
    hosts.wait_status(lost.name, "up", 60)
    until(lambda: shop.service.get(f"/instances/{shop.ids[2]}")["instance"]["status"] == "SHUTDOWN", 60)
    shop.service.wait(shop.post("recover"), 240)
    shop.require(expected)
    shop.service.wait(shop.post("discard_old"))


def _servers(data_dir: Path) -> list[int]:
    return [
        pid for pid, command in processes.below(data_dir / "instances").items() if "/my.cnf" in command and "mariadbd" in command
    ]
