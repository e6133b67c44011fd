"""An agent dies, the control plane dies, its database restarts, the network fails for a moment: the job continues."""

from __future__ import annotations

import subprocess
import time

import pytest

from support.held import begin, health, held, until
from support.hosts import Hosts
from support.own_postgresql import OwnPostgreSQL
from support.service import Refused

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _all_is_well(there: Hosts) -> None:
    until(lambda: health(there, "mysql2") == "HEALTHY", "mysql2 is healthy")


def test_the_service_waits_during_a_short_interruption(there: Hosts) -> None:
    with held(there, "h2") as hold:
        _, job = begin(there, "mysql2", "short")
        hold()
        there.partition("h2")
        there.wait_status("h2", "silent", 30)
        there.heal("h2")
        there.wait_status("h2", "up")
    assert there.service.wait(job)["status"] == "succeeded"


def test_an_agent_finds_its_job_again_after_a_crash(there: Hosts) -> None:
    with held(there, "h2") as hold:
        backup, job = begin(there, "mysql2", "agent-dies")
        hold()
        starts = there["h2"].log.read_text().count("agent serves")
        there.restart_agent("h2")
        until(lambda: there["h2"].log.read_text().count("agent serves") > starts, "the agent serves again")
        assert there.service.job(job)["attempts"] == 1
    assert there.service.wait(job)["attempts"] == 1
    assert there.service.get(f"/backups/{backup}")["backup"]["status"] == "COMPLETED"


def test_a_control_plane_finds_its_job_again_after_a_crash(there: Hosts) -> None:
    with held(there, "h2") as hold:
        _, job = begin(there, "mysql2", "control-dies")
        hold()
        there.service.restart()
        there.wait_status("h2", "up")
        assert there.service.job(job)["status"] == "running"
    assert there.service.wait(job)["attempts"] == 1


def test_the_control_plane_waits_while_its_database_restarts(there: Hosts, database: OwnPostgreSQL) -> None:
    with held(there, "h2") as hold:
        _, job = begin(there, "mysql2", "database-restarts")
        hold()
        subprocess.run([str(database.stop)], check=True)
        time.sleep(1)
        with pytest.raises(Refused) as refused:
            there.service.get("/instances")
        assert (refused.value.status, refused.value.code) == (503, "Unavailable")
        subprocess.run([str(database.start)], check=True)
    assert there.service.wait(job)["attempts"] == 1
    until(lambda: "877901" in database.sql("SELECT objid FROM pg_locks WHERE locktype = 'advisory'", "strongroom"), "alone again")
