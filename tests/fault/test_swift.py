"""Swift in trouble while a job runs: killed, restarted, slow, cut off, full. The job continues, or fails and leaves nothing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from strongroom.artifact import Intent, Location, sweep_orphans
from strongroom.storage import open_store
from support.faults import kill_everything
from support.load import fill
from support.proxy import Proxy
from support.service import Failed, Service, checksums
from support.swift import Swift

ROWS = 20_000
RATE = 2_000_000
BOX = "database_backups"


class Site:
    """A service with a server in it, and a wire to a Swift of its own."""

    def __init__(self, serve: Callable[..., Service], swift: Swift, wire: Proxy, place: Path, **options: Any) -> None:
        self.swift, self.wire = swift, wire
        self.account = f"AUTH_{place.name}"
        self.url = f"{wire.url}/auth/v1.0"
        config = swift.config(self.account, auth_url=self.url, **{"timeout": 3, "retries": 5, **options})
        self.service = serve(config=f"{config}[artifact]\nsegment_size = 1048576\nthreads = 2\n")
        self.instance = self.service.create("mysql1")
        with self.service.sql(self.instance["id"]) as connection:
            fill(connection, ROWS)
            self.data = checksums(connection)

    def begin(self, name: str = "full") -> str:
        """A backup whose bytes are on their way when this returns."""
        before = self.wire.carried["up"]
        self.wire.rate = RATE
        answer = self.service.call("POST", "/backups", {"backup": {"name": name, "instance": "mysql1"}})
        job = answer.headers["Strongroom-Job"]
        self.until(job, lambda: self.wire.carried["up"] - before > 2_000_000)
        return job

    def until(self, job: str, condition: Callable[[], bool]) -> None:
        while not condition():
            assert self.service.job(job)["status"] in ("queued", "running")
            time.sleep(0.02)

    def restart_later(self, seconds: float = 1.5) -> None:
        self.swift.kill()
        threading.Timer(seconds, self.swift.start).start()

    def listing(self) -> tuple[list[str], list[str]]:
        """The content of Swift: what users see, and the segments."""
        return self.swift.listing(self.account, BOX), self.swift.listing(self.account, f"{BOX}_segments")

    def prove(self, job: str) -> None:
        """The backup of the job contains the data, and Swift contains nothing else."""
        view = self.service.job(job)
        backup = self.service.get(f"/backups/{view['backup_id']}")["backup"]
        assert backup["status"] == "COMPLETED"
        seen, parts = self.listing()
        assert seen == [f"{backup['id']}.xbstream.zst"]
        names = {name.rpartition("/")[2] for name in parts}
        numbers = {name for name in names if name.isdigit()}
        assert names == numbers | {"manifest.json", "index.json.zst", "seal.json"}
        assert numbers == {f"{n:08d}" for n in range(len(numbers))}
        assert len(numbers) >= 10
        self.wire.rate = None
        two = self.service.create("mysql2", restorePoint={"backupRef": backup["id"]})
        with self.service.sql(two["id"]) as connection:
            assert checksums(connection) == self.data


@pytest.fixture
def wire(own_swift: Swift) -> Iterator[Proxy]:
    wire = Proxy(own_swift.port)
    yield wire
    wire.close()


@pytest.fixture
def site(serve: Callable[..., Service], own_swift: Swift, wire: Proxy, place: Path) -> Site:
    return Site(serve, own_swift, wire, place)


def restart(site: Site) -> None:
    """Its tokens are gone, too."""
    site.restart_later()


def cut_again_and_again(site: Site) -> None:
    for _ in range(4):
        site.wire.reset()
        time.sleep(0.4)


def tokens_expire(site: Site) -> None:
    for _ in range(4):
        site.swift.forget_tokens()
        time.sleep(0.4)


def stand_still(site: Site) -> None:
    """Longer than a call may take."""
    site.wire.stall()
    time.sleep(4)
    site.wire.go_on()


@pytest.mark.parametrize("trouble", [restart, cut_again_and_again, tokens_expire, stand_still])
def test_a_backup_continues(site: Site, trouble: Callable[[Site], None]) -> None:
    job = site.begin()
    trouble(site)
    site.service.wait(job)
    site.prove(job)


@pytest.mark.parametrize("trouble", [restart, cut_again_and_again, tokens_expire, stand_still])
def test_a_restore_continues(site: Site, trouble: Callable[[Site], None]) -> None:
    full = site.service.backup("mysql1", "full")
    site.wire.rate = RATE
    before = site.wire.carried["down"]
    view = site.service.call("POST", "/instances", {"instance": {"name": "mysql2", "restorePoint": {"backupRef": full["id"]}}})
    job = view.headers["Strongroom-Job"]
    site.until(job, lambda: site.wire.carried["down"] - before > 2_000_000)
    trouble(site)
    site.service.wait(job)
    with site.service.sql(view.json()["instance"]["id"]) as connection:
        assert checksums(connection) == site.data


def test_an_unreachable_swift_fails_jobs_and_remains_are_swept(
    serve: Callable[..., Service], own_swift: Swift, wire: Proxy, place: Path
) -> None:
    site = Site(serve, own_swift, wire, place, retries=1)
    service = site.service
    full = service.backup("mysql1", "full")
    stored = site.listing()
    job = site.begin("lost")
    own_swift.kill()
    with pytest.raises(Failed) as failed:
        service.wait(job)
    fault = failed.value.job["fault"]
    assert fault["code"] == "StorageError"
    assert "Swift does not answer" in fault["message"] and "storage.retries" in fault["remedy"]
    lost = failed.value.job["backup_id"]
    assert service.get(f"/backups/{lost}")["backup"]["status"] == "FAILED"
    assert service.get("/instances/mysql1")["instance"]["status"] == "ACTIVE"
    with pytest.raises(Failed, match="Swift does not answer"):
        service.wait(service.act("/instances/mysql1/action", {"restore": {"backupRef": full["id"]}}))
    with service.sql(site.instance["id"]) as connection:
        assert checksums(connection) == site.data

    own_swift.start()
    wire.rate = None
    assert len(site.listing()[1]) > len(stored[1])
    store = open_store(own_swift.storage(site.account))
    location = Location(container=BOX, id=lost)
    intent = Intent.load(store, location)
    assert intent is not None
    assert sweep_orphans(store, "another service", lambda _: False, timedelta(0)) == []
    assert sweep_orphans(store, intent.owner, lambda _: False, timedelta(0)) == [location]
    assert site.listing() == stored
    service.wait(service.act(f"/backups/{full['id']}/action", {"verify": {}}))
    assert service.get(f"/backups/{full['id']}")["backup"]["verified"]["ok"] is True


def test_a_quota_that_is_reached_during_a_backup(site: Site) -> None:
    job = site.begin()
    with site.swift.in_account(site.account) as client:
        client.post(f"/{BOX}_segments", headers={"X-Container-Meta-Quota-Bytes": "1000"}).raise_for_status()
        with pytest.raises(Failed) as failed:
            site.service.wait(job)
        assert failed.value.job["fault"]["code"] == "StorageFull"
        assert "quota" in failed.value.job["fault"]["remedy"]
        assert site.listing() == ([], [])
        client.post(f"/{BOX}_segments", headers={"X-Container-Meta-Quota-Bytes": ""}).raise_for_status()
    assert site.service.backup("mysql1", "full")["status"] == "COMPLETED"


def test_everything_is_killed_during_a_job(site: Site) -> None:
    """The next attempt begins again, and leaves nothing of the first."""
    job = site.begin()
    kill_everything(site.service)
    site.service.wait(job)
    assert site.service.job(job)["attempts"] > 1
    site.prove(job)


def test_a_cancelled_backup_leaves_nothing(site: Site) -> None:
    job = site.begin()
    site.service.call("DELETE", f"/jobs/{job}")
    assert site.service.wait(job, expect=None)["status"] == "cancelled"
    assert site.listing() == ([], [])
