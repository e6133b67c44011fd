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
from support.service import Refused, checksums

pytestmark = pytest.mark.root
HOSTS = 3
LOST_AFTER = 20
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
    for node in view["instances"]:
        assert node["state"] == "Synced"
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


def test_data_is_sent_from_host_to_host(shop: SpreadShop) -> None:
    expected = shop.write("sent")
    shop.backup("sent")
    shop.write("lost")
    job = shop.restore("sent", method="sst")
    assert not job["output"].get("warnings")
    shop.require(expected)
    shop.service.wait(shop.post("discard_old"))


def test_all_hosts_lose_power(shop: SpreadShop, hosts: Hosts) -> None:
    expected = shop.write("before the cut")
    pids = shop.pids()
    assert len(pids) == HOSTS
    for host in hosts.hosts.values():
        host.kill_agent()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for host in hosts.hosts.values():
        host.start_agent()
    for name in hosts.hosts:
        hosts.wait_status(name, "up")
    shop.service.wait(shop.post("recover"), 240)
    shop.require(expected)


@pytest.mark.parametrize("phase", ["prepare", "verify", "swap", "join node3"])
def test_an_agent_dies_and_the_restore_comes_to_its_end(shop: SpreadShop, hosts: Hosts, phase: str) -> None:
    expected = shop.write(phase)
    name = phase.replace(" ", "-")
    shop.backup(name)
    shop.write("lost")
    job = shop.begin(name)
    phases = ["prepare", "verify", "stop", "swap", "bootstrap", "join", "check"]
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
    hosts.wait_status(cut, "silent", 30)
    with pytest.raises(Refused, match=f"node3.*{cut}.*silent") as refused:
        shop.restore("cut-off")
    assert "--without node3" in refused.value.remedy
    job = shop.restore("cut-off", without=["node3"])
    assert job["output"]["nodes"] == 2
    new = shop.view["uuid"]
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
    assert ended["fault"]["code"] == "HostSilent"
    hosts.wait_status(cut, "up")
    shop.require(expected)
    assert shop.pids() == pids
    shop.backup("after-all")


def test_a_full_disk_ends_a_restore_before_anybody_notices(shop: SpreadShop, hosts: Hosts) -> None:
    expected: Sums = shop.write("full disk")
    shop.backup("full-disk", node="node1")
    pids = shop.pids()
    node = next(each["node"] for each in shop.view["instances"] if each["host"] == SMALL)
    disk = os.statvfs(hosts[SMALL].data_dir)
    ballast = hosts[SMALL].data_dir / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_frsize - (40 << 20))
    try:
        ended = shop.service.wait(shop.begin("full-disk"), 240, expect="failed")
    finally:
        ballast.unlink()
    assert ended["fault"]["message"].startswith(f"{node}: ")
    assert "space" in ended["fault"]["message"]
    assert shop.pids() == pids
    shop.require(expected)
    left = [p.name for each in hosts.hosts.values() for p in each.data_dir.glob("instances/*/data.new-*")]
    assert left == []
    shop.restore("full-disk")
    shop.require(expected)
