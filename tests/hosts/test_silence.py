"""A host is cut off for long: what is said, what fails, what goes on, and that it is welcome back."""

from __future__ import annotations

from typing import Any

import pytest

from support.held import begin, health, held, stored, until, workers
from support.hosts import Hosts
from support.service import Refused

pytestmark = pytest.mark.root
LOST_AFTER = 8


@pytest.fixture(autouse=True)
def _all_is_well(there: Hosts) -> None:
    until(lambda: health(there, "mysql2") == "HEALTHY", "mysql2 is healthy")


@pytest.mark.parametrize("goes_on", [False, True], ids=["hangs", "finishes-meanwhile"])
def test_a_host_that_is_cut_off_fails_its_jobs_and_is_welcome_back(there: Hosts, goes_on: bool) -> None:
    hosts, service = there, there.service
    with held(hosts, "h2") as hold:
        backup, job = begin(hosts, "mysql2", f"cut-{goes_on}")
        hold()
        hosts.partition("h2")
        hosts.wait_status("h2", "silent", 30)
        assert health(hosts, "mysql2") == "ERROR"
        assert hosts.view("h1")["status"] == "up"
        assert service.job(job)["status"] == "running"  # silent is not lost yet
        over = service.wait(job, expect="failed")
        assert over["fault"]["code"] == "HostSilent"
        assert "host h2 has not answered for" in over["fault"]["message"]
        assert "agent" in over["fault"]["remedy"]
        assert service.get(f"/backups/{backup}")["backup"]["status"] == "FAILED"
        # Nothing waits behind it, and the other host is not concerned.
        _, next_job = begin(hosts, "mysql2", f"next-{goes_on}")
        assert service.wait(next_job, 30, expect="failed")["fault"]["code"] == "HostSilent"
        assert service.backup("mysql1", f"other-{goes_on}")["status"] == "COMPLETED"
        with pytest.raises(Refused, match="h2 is unreachable") as refused:
            service.create("there", host="h2")
        assert refused.value.status == 409
        if not goes_on:
            hosts.heal("h2")
            hosts.wait_status("h2", "up")
            until(lambda: not workers(hosts, "h2"), "the end of the work that nobody waits for")
    if goes_on:
        until(lambda: not workers(hosts, "h2"), "the end of the backup")
        hosts.heal("h2")
        hosts.wait_status("h2", "up")
    if goes_on:  # its manifest is in the store: that makes it a backup, whatever became of its job
        until(lambda: service.get(f"/backups/{backup}")["backup"]["status"] == "COMPLETED", "the backup is recorded")
    else:
        until(lambda: not stored(hosts, backup), "the store is clean")
        assert service.get(f"/backups/{backup}")["backup"]["status"] == "FAILED"
    assert service.job(job)["status"] == "failed"
    until(lambda: health(hosts, "mysql2") == "HEALTHY", "mysql2 is seen again")
    again = service.backup("mysql2", f"again-{goes_on}")
    service.wait(service.act(f"/backups/{again['id']}/action", {"verify": {}}))


def test_a_job_that_is_cancelled_while_its_host_is_cut_off_is_ended_there_later(there: Hosts) -> None:
    service = there.service
    with held(there, "h2") as hold:
        _, job = begin(there, "mysql2", "cancelled")
        hold()
        there.partition("h2")
        there.wait_status("h2", "silent", 30)
        service.call("DELETE", f"/jobs/{job}")
        assert service.wait(job, expect=None)["status"] in ("cancelled", "failed")
        there.heal("h2")
        there.wait_status("h2", "up")
        until(lambda: not workers(there, "h2"), "the end of the work that nobody waits for")
    service.backup("mysql2", "after-cancel")


def test_a_host_that_is_gone_for_good_is_forgotten_by_force(there: Hosts) -> None:
    service = there.service
    kept = service.backup("mysql2", "kept")
    with pytest.raises(Refused, match="host h2 is reachable and has instances") as refused:
        service.call("DELETE", "/hosts/h2", force="true")
    assert refused.value.status == 422
    there["h2"].kill_agent()
    there.wait_status("h2", "silent", 30)
    service.call("DELETE", "/hosts/h2", force="true")
    assert [i["name"] for i in service.get("/instances")["instances"]] == ["mysql1"]
    view: dict[str, Any] = service.create("from-the-ashes", restorePoint={"backupRef": kept["id"]})
    assert view["host"] == "h1"
