"""A host is cut off, its agent dies, the control plane dies: what is said, what fails, what goes on, who is welcome back."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support import processes
from support.hosts import Hosts
from support.load import fill
from support.own_postgresql import OwnPostgreSQL
from support.service import Refused

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def there(hosts: Hosts) -> Hosts:
    """With an instance on each host."""
    for number in (1, 2):
        hosts.service.create(f"mysql{number}", host=f"h{number}")
        with hosts.sql(f"mysql{number}") as connection, connection.cursor() as cursor:
            fill(connection)
            cursor.execute("SET GLOBAL connect_timeout = 3600")  # a tool that is stopped while it logs in is waited for
    return hosts


@pytest.fixture(autouse=True)
def _all_is_well(there: Hosts) -> None:
    until(lambda: health(there, "mysql2") == "HEALTHY", "mysql2 is healthy")


@contextlib.contextmanager
def held(hosts: Hosts, host: str) -> Iterator[Callable[[], None]]:
    """The next backup tool on the host is stopped as soon as it is there; call what comes to let it go on. Resumed at the end."""
    pids: list[int] = []

    def wait() -> None:
        until(lambda: bool(pids) or bool(catch()), "a backup tool")

    def catch() -> list[int]:
        for pid, command in processes.below(hosts[host].data_dir).items():
            if command.partition(" ")[0].endswith("mariadb-backup"):
                os.kill(pid, signal.SIGSTOP)
                pids.append(pid)
        return pids

    try:
        yield wait
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.02)


def begin(hosts: Hosts, instance: str, name: str) -> tuple[str, str]:
    """Ids of a backup and of its job."""
    reply = hosts.service.call("POST", "/backups", {"backup": {"name": name, "instance": instance}})
    return str(reply.json()["backup"]["id"]), reply.headers["Strongroom-Job"]


def workers(hosts: Hosts, host: str) -> list[str]:
    return [c for c in processes.below(hosts[host].data_dir).values() if "mariadb-backup" in c or "strongroom.worker" in c]


def stored(hosts: Hosts, backup: str) -> list[str]:
    return [key for key in hosts.service.objects("database_backups") if backup in key]


def health(hosts: Hosts, instance: str) -> str:
    return str(hosts.service.get(f"/instances/{instance}")["instance"]["operating_status"])


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
        with pytest.raises(Refused, match="h2 is silent") as refused:
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
    until(lambda: not stored(hosts, backup), "the store is clean")
    assert service.job(job)["status"] == "failed"
    assert service.get(f"/backups/{backup}")["backup"]["status"] == "FAILED"
    until(lambda: health(hosts, "mysql2") == "HEALTHY", "mysql2 is seen again")
    again = service.backup("mysql2", f"again-{goes_on}")
    service.wait(service.act(f"/backups/{again['id']}/action", {"verify": {}}))


def test_a_short_cut_is_waited_for(there: Hosts) -> None:
    with held(there, "h2") as hold:
        _, job = begin(there, "mysql2", "short")
        hold()
        there.partition("h2")
        there.wait_status("h2", "silent", 30)
        there.heal("h2")
        there.wait_status("h2", "up")
    assert there.service.wait(job)["status"] == "succeeded"


def test_an_agent_that_dies_finds_its_job_again(there: Hosts) -> None:
    with held(there, "h2") as hold:
        backup, job = begin(there, "mysql2", "agent-dies")
        hold()
        starts = there["h2"].log.read_text().count("agent serves")
        there.restart_agent("h2")
        until(lambda: there["h2"].log.read_text().count("agent serves") > starts, "the agent serves again")
        assert there.service.job(job)["attempts"] == 1
    assert there.service.wait(job)["attempts"] == 1
    assert there.service.get(f"/backups/{backup}")["backup"]["status"] == "COMPLETED"


def test_a_control_plane_that_dies_finds_its_job_again(there: Hosts) -> None:
    with held(there, "h2") as hold:
        _, job = begin(there, "mysql2", "control-dies")
        hold()
        there.service.restart()
        there.wait_status("h2", "up")
        assert there.service.job(job)["status"] == "running"
    assert there.service.wait(job)["attempts"] == 1


def test_a_database_of_the_control_plane_that_restarts_is_waited_for(there: Hosts, database: OwnPostgreSQL) -> None:
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
    with pytest.raises(Refused, match="host h2 answers") as refused:
        service.call("DELETE", "/hosts/h2", force="true")
    assert refused.value.status == 422
    there["h2"].kill_agent()
    there.wait_status("h2", "silent", 30)
    service.call("DELETE", "/hosts/h2", force="true")
    assert [i["name"] for i in service.get("/instances")["instances"]] == ["mysql1"]
    view: dict[str, Any] = service.create("from-the-ashes", restorePoint={"backupRef": kept["id"]})
    assert view["host"] == "h1"
