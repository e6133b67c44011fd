"""A restore of a cluster is hit in every phase: kill -9 of the service, a node that hangs, one that comes back.

tests/flows/test_assembly.py tries every single call to an agent on a cluster in memory; here real servers are met.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from support import processes
from support.agents import until
from support.cluster import Shop, cluster_service
from support.service import Failed, Refused, Service

pytestmark = pytest.mark.root

PHASES = ["prepare", "verify", "stop", "swap", "bootstrap", "join node2", "join node3", "check"]
"""Of a restore, in order."""
TIMEOUTS = "start_timeout = 60\nstop_timeout = 10\n"
"""A node that hangs must not be killed before the others have joined."""


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with cluster_service(TIMEOUTS) as service:
        yield service


@pytest.fixture(scope="module")
def shop(service: Service) -> Shop:
    return Shop(service)


def come_to(service: Service, job: str, phase: str) -> None:
    """Wait until the job is in the phase; a short one may be over before it is seen."""
    until(lambda: any(service.job(job)["phase"].startswith(p) for p in [*PHASES[PHASES.index(phase) :], "done"]), 120)


def test_a_restore_completes_if_the_service_dies_in_four_phases(shop: Shop, service: Service) -> None:
    expected = shop.write("before the deaths")
    shop.backup("deaths")
    shop.write("lost")
    job = shop.post("restore", {"restore": {"backupRef": "deaths"}})
    for request in (lambda: shop.backup("meanwhile"), lambda: shop.restore("deaths")):
        with pytest.raises(Refused, match="busy"):
            request()
    for phase in ("prepare", "stop", "bootstrap", "join node3"):
        come_to(service, job, phase)
        service.restart()
    service.wait(job, 300)
    shop.require(expected)
    service.wait(shop.post("discard_old"))


def test_a_hanging_node_aborts_a_restore_and_the_cluster_continues_to_serve(shop: Shop, service: Service) -> None:
    expected = shop.write("hangs")
    shop.backup("hangs")
    pid = shop.pids()[1]
    job = shop.post("restore", {"restore": {"backupRef": "hangs"}})
    come_to(service, job, "verify")
    os.kill(pid, signal.SIGSTOP)
    try:
        ended = service.wait(job, 300, expect="failed")
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "node2" in ended["fault"]["message"]
    service.wait(shop.post("recover"), 240)
    shop.require(expected)


def test_a_chosen_older_node_bootstraps_and_newer_ones_join_empty(shop: Shop, service: Service) -> None:
    expected = shop.write("older")
    first, *others = shop.pids()
    with shop.sql(1) as connection:
        service.kill()  # nobody starts them again
        os.kill(first, signal.SIGKILL)
        until(lambda: first not in processes.below(service.data_dir))
        connection.cursor().execute("UPDATE db1.customers SET note = 'newer' WHERE id = 1")
    for pid in others:
        os.kill(pid, signal.SIGTERM)
        until(lambda pid=pid: pid not in processes.below(service.data_dir), 60)  # type: ignore[misc]
    service.start()
    with pytest.raises(Failed, match="node1 is not the most advanced"):
        service.wait(shop.post("recover", {"recover": {"node": "node1"}}), 240)
    service.wait(shop.post("recover", {"recover": {"node": "node1", "force": True}}), 240)
    shop.require(expected)
    assert [bool(node["old_bytes"]) for node in shop.view["instances"]] == [False, True, True]
    service.wait(shop.post("discard_old"))


def test_a_node_that_missed_a_restore_is_fenced_and_receives_the_data_of_the_others(shop: Shop, service: Service) -> None:
    expected = shop.write("fenced")
    shop.backup("fenced")
    shop.write("lost")
    left_out = shop.ids[2]
    hung = shop.pids()[2]
    os.kill(hung, signal.SIGSTOP)
    job = shop.post("restore", {"restore": {"backupRef": "fenced", "without": ["node3"]}})
    come_to(service, job, "check")  # the others have joined before it is killed
    assert hung in shop.pids()
    assert service.wait(job, 300)["output"]["nodes"] == 2
    until(lambda: service.get(f"/instances/{left_out}")["instance"]["status"] == "SHUTDOWN", 60)
    service.wait(shop.post("recover"), 240)
    shop.require(expected)
