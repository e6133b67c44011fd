"""What the service does for the log archives of policies, on a real catalog and store. The agent is a double."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from strongroom.agent.models import DutyRequest, DutyView
from strongroom.catalog import Backup, Incident, Instance, Job, LogArchive, PolicyRun, now, open_catalog
from strongroom.errors import HostSilent, ServerFailed, StrongroomError, Unsupported
from strongroom.flows import Site, open_site
from strongroom.flows.archives.follow import follow_archives
from strongroom.flows.policies.requests import (
    attach_policy,
    create_policy,
    detach_policy,
    pause_policy,
    require_store,
    resume_policy,
    update_policy,
)
from strongroom.flows.recovery.location import open_log
from strongroom.flows.retention.protection import Protection, show_protection
from strongroom.protection.policy import PolicySpec
from strongroom.settings import load
from strongroom.storage import open_store
from strongroom.worker.duty import DutyReport
from strongroom.worker.spec import ArchivedSeries, Failure, LogArchiveFacts
from support.archives import begin

DUTY = "orders-log"
SECOND = 1_000_000


@dataclass
class Host:
    """The duties of one host."""

    requests: dict[str, DutyRequest] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    """Duties whose options the agent lost in a restart."""
    puts: int = 0
    report: DutyReport | None = None
    error: StrongroomError | None = None
    refusal: StrongroomError | None = None
    """Of a removal."""

    def _view(self, key: str) -> DutyView:
        request = self.requests[key]
        return DutyView(
            id=key,
            kind=request.kind,
            server=request.server,
            wanted=request.wanted,
            state="waiting" if key in self.forgotten else "running",
            report=self.report,
            has_options=key not in self.forgotten,
            digest=request.digest,
        )

    async def duties(self) -> list[DutyView]:
        if self.error is not None:
            raise self.error
        return [self._view(key) for key in self.requests]

    async def put_duty(self, key: str, request: DutyRequest) -> DutyView:
        self.puts += 1
        self.requests[key] = request
        self.forgotten.discard(key)
        return self._view(key)

    async def delete_duty(self, key: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.requests.pop(key, None)

    def tell(self, *, behind: float = 1, clock: timedelta = timedelta(0), failure: Failure | None = None, **facts: Any) -> None:
        """Let the duty report. ``clock``: how much the clock of the host is ahead."""
        at = now() + clock
        complete = int((at - timedelta(seconds=behind)).timestamp() * SECOND)
        told = {} if failure else LogArchiveFacts(complete_until=complete, **facts).model_dump(mode="json")
        self.report = DutyReport(at=at, facts=told, failure=failure)


@dataclass
class World:
    """A service with one host and one PostgreSQL, to which a policy with a log archive applies."""

    site: Site
    host: Host
    jobs: list[Job] = field(default_factory=list)

    def follow(self) -> float | None:
        return follow_archives(self.site)

    def read(self, table: Any, **values: Any) -> list[Any]:
        with self.site.catalog.read() as session:
            return list(session.scalars(select(table).filter_by(**values)))

    @property
    def row(self) -> LogArchive:
        (row,) = self.read(LogArchive)
        assert isinstance(row, LogArchive)
        return row

    @property
    def incidents(self) -> dict[str, Incident]:
        return {row.condition: row for row in self.read(Incident, closed=None)}

    @property
    def protection(self) -> Protection:
        (one,) = show_protection(self.site, "p").databases
        return one

    def change(self, **columns: Any) -> None:
        with self.site.catalog.write() as session:
            row = session.get_one(Instance, "orders")
            for name, value in columns.items():
                setattr(row, name, value)

    def add_backup(self, at: datetime) -> None:
        with self.site.catalog.write() as session:
            session.add(
                Backup(
                    id=f"b{at:%H%M%S%f}",
                    project="p",
                    name="b",
                    instance_id="orders",
                    kind="full",
                    chain_id=f"b{at:%H%M%S%f}",
                    status="COMPLETED",
                    container="c",
                    datastore="postgresql",
                    series="15",
                    started=at,
                    finished=at,
                )
            )

    def begin_series(self, *, seam: tuple[int, int] | None = None, started: datetime | None = None) -> ArchivedSeries:
        """In the store, as the duty does."""
        with self.site.catalog.read() as session:
            store, where = open_log(self.site, session.get_one(Instance, "orders"))
        microseconds = int((started or now()).timestamp() * SECOND)
        series = begin(store, 0, seam=seam, started=microseconds, log=where).series
        return ArchivedSeries(
            number=series.location.number,
            began=series.began,
            reason=series.reason,
            started=series.started,
            continues=series.continues.series if series.continues else None,
        )


@pytest.fixture
def world(place: Path, empty_catalog: Path) -> Iterator[World]:
    shutil.copy(empty_catalog, place)
    settings = load(service={"data_dir": place})
    host = Host()
    site = open_site(settings, open_catalog(settings), open_store(settings.storage, settings.store_path), {"db1": lambda: host})  # type: ignore[dict-item, return-value]
    made = World(site, host)
    site.queue.start = made.jobs.append
    with site.catalog.write() as session:
        session.add(
            Instance(
                id="orders",
                project="p",
                name="orders",
                host="db1",
                datastore="postgresql",
                series="15",
                flavor="d1",
                volume_size=1,
                task=None,
                state="running",
                lineage="abc",
            )
        )
    create_policy(site, "p", "gold", PolicySpec.model_validate({"keep_last": 2, "log_archive": True, "max_loss": "30s"}))
    attach_policy(site, "p", "gold", ["orders"])
    yield made
    site.catalog.close()


def test_a_duty_is_put_when_the_agent_does_not_have_it_as_wanted_and_only_then(world: World) -> None:
    assert world.follow() == world.site.settings.hosts.duties_interval
    options = world.host.requests[DUTY].options
    assert (options["lineage"], options["max_age"]) == ("abc", 5.0)
    assert options["log"]["source"] == "orders"
    world.follow()
    assert world.host.puts == 1
    world.host.forgotten.add(DUTY)
    world.follow()
    assert world.host.puts == 2
    update_policy(world.site, "p", "gold", {"max_loss": "1h"})
    world.follow()
    assert (world.host.puts, world.host.requests[DUTY].options["max_age"]) == (3, 30.0)
    world.change(lineage="other")  # it was restored in place
    world.follow()
    assert world.host.puts == 4


def test_a_duty_that_is_not_wanted_is_removed_as_soon_as_its_server_answers(world: World) -> None:
    world.follow()
    world.host.tell(behind=100)
    world.follow()
    assert set(world.incidents) == {"loss"}
    detach_policy(world.site, "p", "gold", ["orders"])
    world.host.refusal = ServerFailed("the server does not answer")
    assert world.follow() is not None
    assert (world.row.released, world.row.trouble) == (False, "the server does not answer")
    assert not world.incidents
    world.host.refusal = None
    world.follow()
    assert not world.host.requests
    assert world.follow() is None
    attach_policy(world.site, "p", "gold", ["orders"])
    world.follow()
    assert DUTY in world.host.requests
    world.change(deleted=now())  # its agent has removed the duty with the server
    world.follow()
    assert world.row.released


def test_failures_are_incidents_with_the_sentence_of_the_agent_until_it_works(world: World) -> None:
    world.follow()
    failure = Failure(code="InvalidRequest", message="log_bin is off", remedy="Set log_bin = ON.")
    world.host.tell(failure=failure)
    world.follow()
    incident = world.incidents["log archive"]
    assert (incident.detail, incident.remedy) == ("the log is not archived: log_bin is off", "Set log_bin = ON.")
    assert world.protection.log_archive is not None
    assert world.protection.log_archive.trouble == "log_bin is off"
    world.host.tell(trouble=Failure(code="ServerFailed", message="the server restarts"))
    world.follow()
    world.host.tell()
    world.follow()
    assert not world.incidents
    world.host.tell(trouble=Failure(code="ServerFailed", message="no right"))
    world.follow()
    assert not world.incidents, "it may end by itself"
    with world.site.catalog.write() as session:
        session.get_one(LogArchive, "orders").trouble_since = now() - timedelta(minutes=2)
    world.follow()
    assert set(world.incidents) == {"log archive"}


@pytest.mark.parametrize("clock", [timedelta(0), timedelta(hours=1), -timedelta(hours=1)])
def test_loss_is_measured_by_one_clock(world: World, clock: timedelta) -> None:
    world.follow()
    world.host.tell(behind=2, clock=clock)
    world.follow()
    assert not world.incidents
    assert world.protection.log_archive is not None and world.protection.log_archive.loss == 2
    world.host.tell(behind=31, clock=clock, trouble=Failure(code="StorageError", message="the store is full"))
    world.follow()
    assert world.incidents["loss"].detail == "the log archive is 31s behind, 30s are allowed: the store is full"
    assert world.protection.level == "critical"
    assert "loss" in {condition.condition for condition in world.protection.conditions}
    world.change(state="stopped")  # it writes nothing
    world.host.tell(behind=500, clock=clock)
    world.follow()
    assert (world.protection.log_archive.loss, set(world.incidents)) == (None, {"loss"})
    world.change(state="running")
    world.host.tell(behind=1, clock=clock)
    world.follow()
    assert not world.incidents


def test_a_host_that_does_not_answer_may_lose_more_and_more(world: World) -> None:
    world.follow()
    world.host.tell()
    world.follow()
    world.host.error = HostSilent("host db1 is unreachable")
    world.follow()
    assert not world.incidents
    with world.site.catalog.write() as session:
        session.get_one(LogArchive, "orders").seen = now() - timedelta(minutes=3)
    world.follow()
    assert "host db1 is unreachable" in world.incidents["loss"].detail


def test_nothing_archived_since_it_is_wanted_counts_as_lost(world: World) -> None:
    world.follow()
    assert not world.incidents
    with world.site.catalog.write() as session:
        session.get_one(LogArchive, "orders").wanted_since = now() - timedelta(minutes=3)
    world.follow()
    assert set(world.incidents) == {"loss"}


def test_a_gap_begins_a_backup_and_is_closed_by_it(world: World) -> None:
    world.follow()
    world.add_backup(now() - timedelta(hours=2))
    began = now() - timedelta(minutes=1)
    world.host.tell(series=world.begin_series(started=began))
    world.follow()
    assert "the server deleted log that was not archived" in world.incidents["log gap"].detail
    (job,) = world.jobs
    (run,) = world.read(PolicyRun)
    (backup,) = world.read(Backup, status="NEW")
    assert (job.kind, run.job_id, run.kind) == ("backup", job.id, "full")
    assert backup.description == "policy gold: the log archive has a gap"
    world.host.tell(series=ArchivedSeries(number=0, began="lost", started=0))
    world.follow()
    assert len(world.jobs) == 1, "one is enough"
    world.add_backup(began - timedelta(seconds=1))
    world.follow()
    assert "log gap" in world.incidents, "that one began before the gap"
    world.add_backup(began + timedelta(seconds=1))
    world.follow()
    assert not world.incidents


def test_a_series_that_continues_another_one_is_no_gap(world: World) -> None:
    world.follow()
    world.add_backup(now() - timedelta(minutes=1))
    world.host.tell(series=world.begin_series(started=now() - timedelta(minutes=2)))
    world.follow()
    assert not world.incidents
    world.begin_series(seam=(0, 0))  # this one was not seen
    world.host.tell(series=world.begin_series(seam=(1, 0)))
    world.follow()
    assert (world.row.series, world.incidents, world.jobs) == (2, {}, [])


def test_a_paused_policy_begins_no_backup(world: World) -> None:
    world.follow()
    world.host.tell(series=world.begin_series())
    pause_policy(world.site, "p", "gold", reason="the storage is moved")
    world.follow()
    assert ("log gap" in world.incidents, world.jobs) == (True, [])
    resume_policy(world.site, "p", "gold")
    world.follow()
    assert len(world.jobs) == 1


def test_instances_without_an_archive_say_why(world: World) -> None:
    world.change(isolated=True)
    assert world.follow() is None
    assert not world.host.requests
    archive = world.protection.log_archive
    assert archive is not None and archive.state == "none" and "activate" in archive.trouble


def test_a_store_of_users_cannot_have_archives(world: World) -> None:
    storage = {"driver": "swift", "auth": "user", "auth_url": "http://127.0.0.1:1/v3"}
    settings = load(service={"data_dir": world.site.settings.service.data_dir}, storage=storage)
    spec = PolicySpec.model_validate({"keep_last": 1, "log_archive": True})
    site = open_site(settings, world.site.catalog, world.site.stores.default, {})
    with pytest.raises(Unsupported, match="token ends"):
        require_store(site, spec)
