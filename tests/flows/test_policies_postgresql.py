"""Two services on one PostgreSQL find the same runs or backups due at the same time, and are killed: each happens once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from strongroom.catalog import Backup, Expiration, Host, Instance, Job, PolicyRun, Removal, now, open_catalog
from strongroom.flows import Site, open_site
from strongroom.flows.chores.retention import retain
from strongroom.flows.policies.requests import attach_policy, create_policy
from strongroom.protection.policy import PolicySpec
from strongroom.protection.runs import job_id
from strongroom.settings import load
from strongroom.storage import open_store
from support.own_postgresql import OwnPostgreSQL
from support.sweep_backups import run

TESTS = Path(__file__).parents[1]
COUNT = 60
SWEPT = 20
"""Databases with backups."""


@dataclass
class Shared:
    """A catalog on PostgreSQL, and programs that use it together."""

    place: Path
    url: str
    site: Site

    def start(self, program: str, name: str, *words: str) -> subprocess.Popen[str]:
        (self.place / name).mkdir()
        process = subprocess.Popen(
            [sys.executable, str(TESTS / "support" / program), str(self.place / name), self.url, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(TESTS)},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process


def go(*processes: subprocess.Popen[str]) -> list[str]:
    """Let them begin at the same time; their last words."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate(timeout=120)[0] for process in processes]


@pytest.fixture
def shared(place: Path) -> Iterator[Shared]:
    own = OwnPostgreSQL(place, hba="local all all trust\n")
    own.sql("CREATE ROLE strongroom LOGIN")
    own.sql("CREATE DATABASE strongroom OWNER strongroom")
    url = f"postgresql://strongroom@/strongroom?host={own.run}"
    settings = load(service={"data_dir": place, "database_url": url})
    catalog = open_catalog(settings)
    site = open_site(settings, catalog, open_store(settings.storage, place / "store"), {})
    site.queue.start = lambda job: None
    with catalog.write() as session:
        session.add(Host(name="db1", seen=now()))
        columns = {"project": "p", "host": "db1", "datastore": "mariadb", "series": "10.11", "flavor": "d1", "volume_size": 1}
        session.add_all(Instance(id=f"i{n}", name=f"i{n}", state="running", **columns) for n in range(COUNT))
    create_policy(site, "p", "gold", PolicySpec(full="daily 02:00", keep_last=3))
    attach_policy(site, "p", "gold", [], whole_project=True)
    yield Shared(place, url, site)
    catalog.close()
    own.end()


def test_each_run_begins_once(shared: Shared) -> None:
    at = now().isoformat()
    doomed = [shared.start("begin_runs.py", name, at, dies_at) for name, dies_at in (("a", "15"), ("b", "25"))]
    go(*doomed)
    assert [process.returncode for process in doomed] == [-signal.SIGKILL] * 2
    with shared.site.catalog.read() as session:
        before = session.query(PolicyRun).count()
        assert before == session.query(Job).count()
    assert 0 < before < COUNT
    started = [int(words.splitlines()[-1]) for words in go(*(shared.start("begin_runs.py", name, at) for name in "cd"))]
    assert sum(started) == COUNT - before
    with shared.site.catalog.read() as session:
        runs = {run.id: run for run in session.query(PolicyRun)}
        jobs = session.query(Job).all()
    assert len(runs) == len({run.database_id for run in runs.values()}) == COUNT
    assert {job.id for job in jobs} == {job_id(run, 1) for run in runs}
    assert len(jobs) == COUNT


def test_each_backup_is_swept_once(shared: Shared) -> None:
    """Of each database, a chain of two goes. Two services sweep and are killed; two others sweep what is left."""
    catalog, store = shared.site.catalog, shared.site.stores.default
    with catalog.write() as session:
        for n in range(SWEPT):
            for name, days, parent in (("a", 9, None), ("b", 8, "a"), ("c", 3, None), ("d", 2, None), ("e", 1, None)):
                row = Backup(
                    id=f"{name}{n}",
                    project="p",
                    name=name,
                    container="c",
                    instance_id=f"i{n}",
                    kind="incremental" if parent else "full",
                    parent_id=f"{parent}{n}" if parent else None,
                    chain_id=f"{parent or name}{n}",
                    datastore="mariadb",
                    series="10.11",
                    status="COMPLETED",
                )
                row.created = row.started = row.finished = row.updated = now() - timedelta(days=days)
                session.add(row)
                store.put(f"c/{row.id}/manifest.json", b"{}")
    retain(shared.site)
    gone = {f"{name}{n}" for name in "ab" for n in range(SWEPT)}
    with catalog.write() as session:
        marks = {mark.backup_id: mark for mark in session.query(Expiration)}
        assert set(marks) == gone
        for mark in marks.values():
            mark.marked = mark.sweep_at = now() - timedelta(seconds=1)
    words = str(shared.place / "store")
    doomed = [shared.start("sweep_backups.py", name, words, dies_at) for name, dies_at in (("a", "7"), ("b", "8"))]
    go(*doomed)
    with catalog.read() as session:
        assert session.query(Removal).count() < len(gone)
        assert session.query(Job).count() == SWEPT, "one for each chain"
        left = [job.id for job in session.query(Job).filter(Job.finished.is_(None))]
    assert left
    started = [int(words.splitlines()[-1]) for words in go(*(shared.start("sweep_backups.py", name, words) for name in "cd"))]
    assert started == [0, 0], "all are being removed"
    for key in left:
        run(shared.site, key)
    with catalog.read() as session:
        removals = [row.backup_id for row in session.query(Removal)]
        assert session.query(Job).count() == SWEPT
        assert {row.id for row in session.query(Backup).filter(Backup.deleted.is_not(None))} == gone
        assert session.query(Expiration).count() == 0
    assert sorted(removals) == sorted(gone)
    assert set(store.folders("c")) == {f"{name}{n}" for name in "cde" for n in range(SWEPT)}
