"""Which queued job starts next."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.catalog import Host, Job, now, open_catalog
from strongroom.flows import open_site
from strongroom.flows.launcher import Launcher
from strongroom.settings import load
from strongroom.storage import open_store
from support.agents import until


class Site:
    """A catalog with jobs, and a launcher whose jobs end when the test says so."""

    def __init__(self, place: Path) -> None:
        settings = load(service={"data_dir": place})
        self.control = open_site(settings, open_catalog(settings), open_store(settings.storage, settings.store_path), {})
        with self.control.catalog.write() as session:
            session.add(Host(name="db1", view={"jobs_limit": 2}))
        self.started: list[str] = []
        self.changed = threading.Event()
        self.launcher = Launcher(self.control, self.started.append)

    def queue(self, job_id: str, kind: str, *, host: str | None = "db1", instance: str | None = None, **params: Any) -> None:
        with self.control.catalog.write() as session:
            session.add(Job(id=job_id, project="p", kind=kind, host=host, instance_id=instance, params=params))
        self.launcher.wake()

    def end(self, job_id: str) -> None:
        with self.control.catalog.write() as session:
            row = session.get(Job, job_id)
            assert row is not None
            row.finished = now()
        self.launcher.ended(job_id)

    def require(self, *job_ids: str) -> None:
        """Exactly these have been started, in this order."""
        until(lambda: len(self.started) >= len(job_ids), 5)
        assert self.started == list(job_ids)


@pytest.fixture
def site(place: Path) -> Iterator[Site]:
    site = Site(place)
    yield site
    site.launcher.stop()


def test_control_operations_do_not_wait_for_backups_of_other_instances(site: Site) -> None:
    site.launcher.begin(set())
    site.queue("1", "backup", instance="a")
    site.queue("2", "backup", instance="b")
    site.queue("3", "backup", instance="c")
    site.queue("4", "start", instance="d")
    site.queue("5", "stop", instance="e")
    site.require("1", "2", "4", "5")
    site.end("1")
    site.require("1", "2", "4", "5", "3")


def test_jobs_of_one_instance_run_in_order_one_at_a_time(site: Site) -> None:
    site.queue("1", "backup", instance="a")
    site.queue("2", "start", instance="a")
    site.queue("3", "delete_instance", instance="a")
    site.launcher.begin(set())
    site.require("1")
    site.end("1")
    site.require("1", "2")
    site.end("2")
    site.require("1", "2", "3")


def test_deletions_of_one_chain_run_one_after_the_other(site: Site) -> None:
    site.launcher.begin(set())
    site.queue("1", "delete_backup", host=None, partition="chain")
    site.queue("2", "delete_backup", host=None, partition="chain")
    site.queue("3", "delete_backup", host=None, partition="other")
    site.require("1", "3")
    site.end("1")
    site.require("1", "3", "2")


def test_resumed_jobs_use_capacity(site: Site) -> None:
    site.queue("1", "backup", instance="a")
    site.queue("2", "backup", instance="b")
    site.queue("3", "backup", instance="c")
    site.launcher.begin({"1", "2"})
    site.queue("4", "restart", instance="d")
    site.require("4")
    site.end("2")
    site.require("4", "3")


def test_host_with_a_higher_limit_gets_more_jobs(site: Site) -> None:
    site.launcher.begin(set())
    for number in range(1, 4):
        site.queue(str(number), "verify", instance=str(number))
    site.require("1", "2")
    with site.control.catalog.write() as session:
        row = session.get(Host, "db1")
        assert row is not None
        row.view = {"jobs_limit": 5}
    site.launcher.wake()
    site.require("1", "2", "3")
