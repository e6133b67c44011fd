"""An agent dies, the control plane dies, its database restarts, the network fails for a moment: the job continues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import Any

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


def test_a_log_archive_continues_after_its_agent_and_its_process_died(there: Hosts) -> None:
    """The agent has forgotten its options then: the control plane sends them again."""
    there.service.call("POST", "/policies", {"policy": {"name": "gold", "keep_last": 5, "log_archive": True, "max_loss": "1m"}})
    there.service.call("POST", "/policies/gold/action", {"attach": {"databases": ["mysql2"]}})

    def archive() -> dict[str, Any]:
        found = there.service.get("/protection")["protection"]["databases"]
        return next(one for one in found if one["name"] == "mysql2")["log_archive"] or {}

    def find_pid() -> int:
        """Of the process of the duty; 0 while there is none."""
        record = next((there["h2"].data_dir / "agent" / "duties").glob("*.json"), None)
        return int((json.loads(record.read_text())["process"] or {}).get("pid", 0)) if record else 0

    until(lambda: archive().get("position"), "the log is archived", 120)
    before = archive()["position"]
    first = find_pid()
    there["h2"].kill_agent()
    os.kill(first, signal.SIGKILL)
    with there.sql("mysql2") as connection, connection.cursor() as cursor:
        cursor.execute("CREATE DATABASE after_the_agent")
    there["h2"].start_agent()
    until(lambda: find_pid() not in (0, first), "its process runs again", 120)
    until(lambda: archive()["position"] != before and not archive()["trouble"], "the archive advances", 120)
    there.service.call("POST", "/policies/gold/action", {"detach": {"databases": ["mysql2"]}})
    until(lambda: not list((there["h2"].data_dir / "agent" / "duties").glob("*.json")), "the duty is removed", 120)
    there.service.call("DELETE", "/policies/gold")
