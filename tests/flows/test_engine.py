"""DBOS on its leash: what survives a stop, what is refused. Jobs here need no agent; the others run in the whole stories."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import pickle
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dbos import DBOS, _dbos
from dbos import _serialization as dbos_serialization
from sqlalchemy import event, select

from strongroom.api.service import serve
from strongroom.catalog import Backup, Job, Policy, open_catalog
from strongroom.catalog.find import find_job
from strongroom.errors import ConfigurationError
from strongroom.flows import Engine, Site, dbos_pace, open_site
from strongroom.flows.crashes import MOST_CRASHES, Crashes
from strongroom.flows.kinds.deletion import request_delete_backup
from strongroom.flows.loop import begin_job
from strongroom.settings import load
from strongroom.storage import open_store
from support.agents import until


def make_control(place: Path) -> Site:
    settings = load(service={"data_dir": place})
    return open_site(settings, open_catalog(settings), open_store(settings.storage, settings.store_path), {})


@pytest.fixture
def control(place: Path) -> Site:
    return make_control(place)


@pytest.fixture
def engine(control: Site) -> Iterator[Engine]:
    engine = Engine(control)
    engine.lock()
    engine.start()
    yield engine
    engine.stop()


def stored(control: Site, name: str = "b1") -> str:
    control.stores.default.put(f"c/{name}/00000000", b"data")
    control.stores.default.put(f"c/{name}/manifest.json", b"{}")
    with control.catalog.write() as session:
        session.add(
            Backup(
                id=name,
                project="p",
                name=name,
                container="c",
                kind="full",
                chain_id=name,
                status="COMPLETED",
                datastore="mariadb",
                series="10.11",
            )
        )
    return name


def ended(control: Site, job_id: str, seconds: float = 15) -> Job:
    deadline = time.monotonic() + seconds
    while True:
        with control.catalog.read() as session:
            job = session.get(Job, job_id)
            assert job is not None
            if job.finished is not None:
                return job
        assert time.monotonic() < deadline, job.status
        time.sleep(0.02)


def test_job_runs_to_its_end(control: Site, engine: Engine) -> None:
    job = request_delete_backup(control, "p", stored(control))
    assert ended(control, job.id).status == "succeeded"
    assert list(control.stores.default.list("c")) == []
    with control.catalog.read() as session:
        row = session.get(Backup, "b1")
        assert row is not None
        assert row.deleted is not None


def test_a_job_that_crashes_the_service_every_time_fails_in_the_end(control: Site, place: Path) -> None:
    control.queue.start = lambda job: None
    stuck, moving = (request_delete_backup(control, "p", stored(control, name)) for name in ("b1", "b2"))
    for job in (stuck, moving):
        asyncio.run(begin_job(control, job.id))
    crashes = Crashes(place, control.catalog)
    crashes.begin()
    for _ in range(MOST_CRASHES):
        crashes.begin()  # the process before did not stop as it should
        with control.catalog.write() as session:
            find_job(session, None, moving.id).events += 1
    crashes.end()
    crashes.begin()  # a restart is no crash
    engine = Engine(control)
    crashes.end()
    engine.lock()
    engine.start()
    try:
        failed = ended(control, stuck.id)
        assert failed.fault is not None
        assert f"the service crashed {MOST_CRASHES} times during delete_backup job {stuck.id}" in failed.fault["message"]
        assert ended(control, moving.id).status == "succeeded"
        assert (place / "engine.running").exists()
    finally:
        engine.stop()
    assert not (place / "engine.running").exists()


def test_cascade_deletes_all_in_one_job(control: Site, engine: Engine) -> None:
    stored(control, "full")
    for child, parent in (("inc1", "full"), ("inc2", "inc1"), ("side", "full")):
        stored(control, child)
        with control.catalog.write() as session:
            row = session.get(Backup, child)
            assert row is not None
            row.kind, row.parent_id, row.chain_id = "incremental", parent, "full"
    job = request_delete_backup(control, "p", "full", cascade=True)
    assert ended(control, job.id).status == "succeeded"
    assert list(control.stores.default.list("c")) == []
    with control.catalog.read() as session:
        assert {row.status for row in session.scalars(select(Backup))} == {"DELETED"}


def test_job_without_a_workflow_is_started_at_the_next_start(control: Site) -> None:
    control.queue.start = lambda job: None  # the process dies between the commit and the enqueue
    job = request_delete_backup(control, "p", stored(control))
    engine = Engine(control)
    engine.lock()
    engine.start()
    try:
        assert ended(control, job.id).status == "succeeded"
    finally:
        engine.stop()


@pytest.mark.parametrize(
    "left",
    [
        "application_version = 'strongroom-0', status = 'PENDING'",
        "status = 'ENQUEUED', queue_name = 'control'",
        "status = 'ENQUEUED', queue_name = 'host.db1', application_version = 'strongroom-0'",
    ],
)
def test_unfinished_job_of_an_earlier_version_is_done(control: Site, left: str, place: Path) -> None:
    first = Engine(control)
    first.lock()
    first.start()
    job = request_delete_backup(control, "p", stored(control))
    ended(control, job.id)
    until(lambda: DBOS.get_workflow_status(job.id).status == "SUCCESS")  # type: ignore[union-attr]
    first.stop()
    with sqlite3.connect(place / "engine.sqlite") as tables:
        tables.execute(f"UPDATE workflow_status SET {left}, output = NULL WHERE workflow_uuid = ?", (job.id,))
        tables.execute("DELETE FROM operation_outputs WHERE workflow_uuid = ?", (job.id,))
    with control.catalog.write() as session:  # as it was before
        row, backup = session.get(Job, job.id), session.get(Backup, "b1")
        assert row is not None and backup is not None
        row.finished, row.status = None, "running"
        backup.deleted, backup.status = None, "DELETING"
    control.stores.default.put("c/b1/manifest.json", b"{}")
    second = Engine(control)
    second.lock()
    second.start()
    try:
        assert ended(control, job.id).status == "succeeded"
    finally:
        second.stop()
    assert list(control.stores.default.list("c")) == []


def test_failure_is_a_result_with_a_reason(control: Site, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from strongroom.errors import StorageDenied

    def refuse(keys: object) -> None:
        raise StorageDenied("the store says no", remedy="ask it nicely")

    monkeypatch.setattr(control.stores.default, "delete", refuse)
    job = request_delete_backup(control, "p", stored(control))
    end = ended(control, job.id)
    assert (end.status, (end.fault or {})["code"]) == ("failed", "StorageDenied")
    with control.catalog.read() as session:
        row = session.get(Backup, "b1")
        assert row is not None
        assert (row.status, row.deleted) == ("DELETE_FAILED", None)
    monkeypatch.undo()
    job = request_delete_backup(control, "p", "b1")
    assert ended(control, job.id).status == "succeeded"


def test_second_service_on_the_same_state_is_refused(control: Site, engine: Engine, place: Path) -> None:
    with pytest.raises(ConfigurationError, match="another strongroom serve"):
        Engine(make_control(place)).lock()


def test_a_second_service_that_is_refused_declares_no_policies(control: Site, engine: Engine, place: Path) -> None:
    settings = load(
        service={"data_dir": place, "port": 0},
        agent={"embedded": False},
        policies={"gold": {"keep_last": 3, "full": "daily 02:00"}},
    )
    with pytest.raises(ConfigurationError, match="another strongroom serve"):
        asyncio.run(serve(settings))
    with control.catalog.read() as session:
        assert session.scalars(select(Policy)).all() == []


class Bomb:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_pickled_row_in_the_engines_tables_runs_no_code(control: Site, engine: Engine, place: Path) -> None:
    bomb = base64.b64encode(pickle.dumps(Bomb(place / "owned"))).decode()
    job = request_delete_backup(control, "p", stored(control))
    ended(control, job.id)
    with pytest.raises(ValueError, match="refused"):
        dbos_serialization.DefaultSerializer().deserialize(bomb)
    time.sleep(0.3)
    with sqlite3.connect(place / "engine.sqlite") as tables:
        rows = tables.execute("SELECT inputs, serialization FROM workflow_status WHERE workflow_uuid = ?", (job.id,)).fetchall()
        assert rows
        assert "py_pickle" not in str(rows)
        tables.execute(
            "UPDATE workflow_status SET inputs = ?, output = ?, serialization = 'py_pickle' WHERE workflow_uuid = ?",
            (bomb, bomb, job.id),
        )
    with contextlib.suppress(ValueError):
        DBOS.list_workflows(workflow_ids=[job.id])
    assert not (place / "owned").exists()


def test_file_of_the_engine_is_private_and_in_wal_mode(engine: Engine, place: Path) -> None:
    assert oct((place / "engine.sqlite").stat().st_mode)[-3:] == "600"
    with sqlite3.connect(place / "engine.sqlite") as tables:
        assert tables.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_old_history_is_purged(control: Site, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from strongroom.flows import engine as module

    job = request_delete_backup(control, "p", stored(control))
    ended(control, job.id)
    time.sleep(0.3)
    assert module.purge_history() == 0
    monkeypatch.setattr(module, "KEEP", timedelta(seconds=-5))
    assert module.purge_history() == 1


def test_idle_service_does_not_query_the_database(control: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """DBOS would ask for queues, delays and timeouts every second."""
    monkeypatch.setattr(dbos_pace, "RECOVERY", 0.1)
    engine = Engine(control)
    engine.lock()
    engine.start()
    statements: list[str] = []
    try:
        time.sleep(1.5)
        database = _dbos._get_dbos_instance()._sys_db.engine
        event.listen(database, "before_cursor_execute", lambda _c, _cursor, statement, *_: statements.append(statement))
        time.sleep(2.5)
        assert statements == []
        assert recovery_pace() == dbos_pace.RESTING <= 60  # recovery that waited for the database is not left alone for long
    finally:
        engine.stop()
    monkeypatch.undo()
    again = Engine(control)
    again.lock()
    again.start()
    try:
        until(lambda: recovery_pace() == 1)
    finally:
        again.stop()


def recovery_pace() -> float:
    """Seconds between two looks of DBOS at the queue by which it recovers jobs."""
    return _dbos._get_dbos_instance()._registry.get_internal_queue()._polling_interval_sec
