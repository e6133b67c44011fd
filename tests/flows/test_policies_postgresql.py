"""Two services on one PostgreSQL find the same runs due at the same time, and are killed: each run begins once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from strongroom.catalog import Host, Instance, Job, PolicyRun, now, open_catalog
from strongroom.flows import open_site
from strongroom.flows.policies.requests import attach_policy, create_policy
from strongroom.protection.policy import PolicySpec
from strongroom.protection.runs import make_job_id
from strongroom.settings import load
from strongroom.storage import open_store
from support.own_postgresql import OwnPostgreSQL

TESTS = Path(__file__).parents[1]
COUNT = 60


def test_each_run_begins_once(place: Path) -> None:
    own = OwnPostgreSQL(place, hba="local all all trust\n")
    own.sql("CREATE ROLE strongroom LOGIN")
    own.sql("CREATE DATABASE strongroom OWNER strongroom")
    url = f"postgresql://strongroom@/strongroom?host={own.run}"
    settings = load(service={"data_dir": place, "database_url": url})
    catalog = open_catalog(settings)
    site = open_site(settings, catalog, open_store(settings.storage, place / "store"), {})
    with catalog.write() as session:
        session.add(Host(name="db1", seen=now()))
        columns = {"project": "p", "host": "db1", "datastore": "mariadb", "series": "10.11", "flavor": "d1", "volume_size": 1}
        session.add_all(Instance(id=f"i{n}", name=f"i{n}", state="running", **columns) for n in range(COUNT))
    create_policy(site, "p", "gold", PolicySpec(full="daily 02:00", keep_last=3))
    attach_policy(site, "p", "gold", [], whole_project=True)
    at = now().isoformat()

    def start(name: str, *dies_at: str) -> subprocess.Popen[str]:
        (place / name).mkdir()
        process = subprocess.Popen(
            [sys.executable, str(TESTS / "support" / "begin_runs.py"), str(place / name), url, at, *dies_at],
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

    doomed = [start("a", "15"), start("b", "25")]
    go(*doomed)
    assert [process.returncode for process in doomed] == [-signal.SIGKILL] * 2
    with catalog.read() as session:
        before = session.query(PolicyRun).count()
        assert before == session.query(Job).count()
    assert 0 < before < COUNT
    started = [int(words.splitlines()[-1]) for words in go(start("c"), start("d"))]
    assert sum(started) == COUNT - before
    with catalog.read() as session:
        runs = {run.id: run for run in session.query(PolicyRun)}
        jobs = session.query(Job).all()
    assert len(runs) == len({run.database_id for run in runs.values()}) == COUNT
    assert {job.id for job in jobs} == {make_job_id(run, 1) for run in runs}
    assert len(jobs) == COUNT
    catalog.close()
    own.end()
