"""However a backup job ends: what has a manifest in the store becomes a backup, and nothing removes it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from strongroom.artifact import Location, load_manifest
from strongroom.catalog import Backup, Host, Instance, Job, now, open_catalog
from strongroom.datastores import Server, Version
from strongroom.errors import ArtifactError, HostSilent, StorageDenied, StorageError
from strongroom.flows import open_site
from strongroom.flows.backups import artifact_end
from strongroom.flows.backups.options import BackupOptions
from strongroom.flows.chores.sweep import SOON, SWEEP, finish_failed
from strongroom.flows.follow import make_request
from strongroom.flows.kinds.backup import request_backup
from strongroom.flows.kinds.create import request_instance
from strongroom.settings import load
from strongroom.storage import Store, open_store
from strongroom.worker._backup import back_up
from strongroom.worker._events import EventLog
from strongroom.worker.spec import BackupJob, Failure, JobRequest, JobView, Result, WorkerSpec
from support.artifacts import write_artifact
from support.stages import run_stages
from support.stores import Wrapped


class Died(BaseException):
    """The control plane is gone."""


class Flaky(Wrapped):
    """A store of which ``fail`` decides before each call whether it fails."""

    fail: Callable[[str], BaseException | None] = staticmethod(lambda call: None)

    def _before(self, call: str) -> None:
        if (error := self.fail(call)) is not None:
            raise error

    def put(self, key: str, data: bytes | memoryview, *, create: bool = False) -> Any:
        self._before(f"put {key}")
        return super().put(key, data, create=create)

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        self._before(f"get {key}")
        return super().get(key, start=start, length=length)

    def head(self, key: str) -> Any:
        self._before(f"head {key}")
        return super().head(key)

    def list(self, prefix: str) -> Any:
        self._before(f"list {prefix}")
        return super().list(prefix)

    def delete(self, keys: Any) -> None:
        self._before("delete")
        super().delete(keys)


class Agent:
    """Takes backups as a worker does; ``failure`` is what it reports although the artifact is whole."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.writes = True
        self.project = ""
        self.known: dict[str, str] = {}
        self.failure: Failure | None = None

    async def put_job(self, job_id: str, request: JobRequest) -> JobView:
        job: Any = request.job
        if self.writes:
            try:
                load_manifest(self.store, job.location)
            except ArtifactError:
                fields = {"instance_id": job.instance_id, "project": self.project or job.project}
                write_artifact(self.store, job.location, b"data" * 1000, **fields)
        at = datetime.now(UTC)
        failed = self.failure is not None
        output = {} if failed else {"manifest": {}, "reason": None, **self.known}
        result = Result(status="failed" if failed else "succeeded", started=at, finished=at, failure=self.failure, output=output)
        return JobView(id=job_id, status=result.status, result=result)


class Site:
    """A control plane with one instance, a store that can fail, and an agent that takes backups."""

    def __init__(self, place: Path) -> None:
        settings = load(service={"data_dir": place}, hosts={"lost_after": 1})
        self.real = open_store(settings.storage, settings.store_path)
        self.store = Flaky(self.real)
        self.agent = Agent(self.real)
        agents: Any = {"local": lambda: self.agent}
        self.control = open_site(settings, open_catalog(settings), self.store, agents)
        self.control.queue.start = lambda job: None
        version = {"datastore": "mariadb", "series": "10.11", "number": "10.11.19", "programs": {}}
        with self.control.catalog.write() as session:
            session.add(Host(name="local", view={"versions": [version], "free_bytes": 1 << 40}))
        self.instance, job = request_instance(self.control, "p", name="mysql1")
        with self.control.catalog.write() as session:
            row, created = session.get(Instance, self.instance.id), session.get(Job, job.id)
            assert row is not None and created is not None
            row.state, row.healthy, row.task, row.lineage = "running", True, None, "L1"
            created.finished, created.status = now(), "succeeded"

    def take(self, name: str) -> tuple[Backup, Job]:
        return request_backup(self.control, "p", self.instance.id, BackupOptions(name=name))

    def row(self, backup: Backup) -> Backup:
        with self.control.catalog.read() as session:
            row = session.get(Backup, backup.id)
            assert row is not None
            return row

    def is_whole(self, backup: Backup) -> bool:
        try:
            load_manifest(self.real, Location(container=backup.container, id=backup.id))
        except ArtifactError:
            return False
        return True

    def require_truth(self, backup: Backup) -> None:
        """The catalog says COMPLETED exactly when the store holds the whole artifact."""
        assert (self.row(backup).status == "COMPLETED") == self.is_whole(backup), self.row(backup).fault


@pytest.fixture
def site(place: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(artifact_end, "FIRST_PAUSE", 0.001)
    return Site(place)


def test_crash_or_store_error_at_any_step_loses_no_backup(site: Site) -> None:
    """The control plane dies at call n of the store, or the store fails there once, or both: every pair of points."""
    for death, error in itertools.product(range(8), range(8)):
        calls = itertools.count()

        def fail(call: str, death: int = death, error: int = error, calls: Any = calls) -> BaseException | None:
            number = next(calls)
            if number == death:
                return Died()
            return StorageError("the store is away") if number == error else None

        site.store.fail = fail
        backup, job = site.take(f"b{death}{error}")
        assert run_stages(site.control, job, killed=Died) is None
        site.store.fail = lambda call: None
        assert site.row(backup).status == "COMPLETED", (death, error)
        assert site.is_whole(backup), (death, error)


def test_backup_is_recorded_when_the_store_is_reachable_again(site: Site) -> None:
    tries = itertools.count()
    site.store.fail = lambda call: StorageError("the store is away") if next(tries) < 5 else None
    backup, job = site.take("b")
    assert run_stages(site.control, job, killed=Died) is None
    site.require_truth(backup)
    with site.control.catalog.read() as session:
        assert next(tries) > 5
        assert "waiting for the store" not in (session.get(Job, job.id).message or "")  # type: ignore[union-attr]


def test_long_outage_of_the_store_fails_the_job_and_the_sweep_completes_the_backup(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_end, "SHORTEST_WAIT", 0.05)
    monkeypatch.setattr(artifact_end, "LONGEST_PAUSE", 0.001)
    tries = itertools.count()
    site.store.fail = lambda call: StorageError("there is no such bucket") if next(tries) < 5000 else Died()
    backup, job = site.take("b")
    failure = run_stages(site.control, job, killed=Died, restarts=0)
    assert failure is not None
    assert failure["message"] == "there is no such bucket"
    assert site.row(backup).status == "FAILED"
    assert site.is_whole(backup)
    site.store.fail = lambda call: None
    finish_failed(site.control)
    site.require_truth(backup)


def test_temporarily_missing_container_loses_no_backup(site: Site) -> None:
    """A file system that is not mounted shows no manifest either."""
    site.agent.failure = Failure(code="JobLost", message="the worker died")
    backup, job = site.take("b")
    site.store.fail = lambda call: StorageError("the store is down")
    assert run_stages(site.control, job, killed=Died) is not None
    site.store.fail = lambda call: None
    container = site.control.settings.store_path / backup.container
    container.rename(site.control.settings.store_path.parent / "elsewhere")
    finish_failed(site.control)
    assert site.row(backup).status == "FAILED"
    (site.control.settings.store_path.parent / "elsewhere").rename(container)
    finish_failed(site.control)
    assert site.row(backup).status == "COMPLETED"
    site.require_truth(backup)


def test_lost_worker_and_unmounted_store_lose_no_backup(site: Site) -> None:
    """A machine starts again, and a file system is not mounted yet. The store shows nothing from the start."""
    site.agent.failure = Failure(code="JobLost", message="the worker died")
    backup, job = site.take("b")
    container = site.control.settings.store_path / backup.container

    def unmount(call: str) -> None:
        if call.startswith("get") and container.exists():
            container.rename(site.control.settings.store_path.parent / "elsewhere")

    site.store.fail = unmount
    assert run_stages(site.control, job, killed=Died) is not None
    site.store.fail = lambda call: None
    (site.control.settings.store_path.parent / "elsewhere").rename(container)
    finish_failed(site.control)
    assert site.row(backup).status == "COMPLETED"
    site.require_truth(backup)


def test_no_backup_is_written_below_an_unmounted_file_system(site: Site) -> None:
    """It would be hidden once the file system is mounted. Another directory is another store, which may be empty."""
    first, job = site.take("first")
    assert run_stages(site.control, job, killed=Died) is None
    _, job = site.take("second")
    with site.control.catalog.read() as session:
        request = make_request(site.control, session, job).job
    assert isinstance(request, BackupJob)
    assert request.container_exists
    (site.control.settings.store_path / first.container).rename(site.control.settings.store_path.parent / "elsewhere")
    home = site.control.settings.store_path
    version = Version(datastore="mariadb", series="10.11", number="10.11.19", programs={})
    server = Server(id="s", datastore="mariadb", user="root", base_dir=home, data_dir=home, version=version)
    spec = WorkerSpec(id="j", job=request, user="root", work_dir=home, server=server)
    with pytest.raises(StorageError, match="does not exist, though the catalog knows backups in it"):
        back_up(spec, request, EventLog(home / "events.jsonl"))
    site.control.stores.default = open_store(site.control.settings.storage, home.parent / "another")
    with site.control.catalog.read() as session:
        other: Any = make_request(site.control, session, job).job
    assert not other.container_exists


def test_worker_failure_after_the_manifest_does_not_lose_the_backup(site: Site) -> None:
    site.agent.failure = Failure(code="ToolFailed", message="something failed after the manifest was written")
    backup, job = site.take("b")
    assert run_stages(site.control, job, killed=Died) is None
    assert site.row(backup).status == "COMPLETED"
    site.require_truth(backup)


def test_manifest_of_another_project_completes_no_backup(site: Site) -> None:
    """Somebody who can write to the bucket puts it there before it is recorded."""
    site.agent.project = "another"
    backup, job = site.take("b")
    failure = run_stages(site.control, job, killed=Died)
    assert failure is not None
    assert failure["code"] == "ManifestInvalid"
    assert site.row(backup).status == "FAILED"
    assert site.is_whole(backup)


def test_recorded_manifest_is_the_one_that_the_worker_wrote(site: Site) -> None:
    site.agent.known = {"manifest_sha256": "0" * 64}
    backup, job = site.take("b")
    failure = run_stages(site.control, job, killed=Died)
    assert failure is not None
    assert "is not the one that was written" in failure["message"]
    assert site.row(backup).status == "FAILED"


def test_nothing_is_removed_while_a_worker_may_still_write(site: Site) -> None:
    """Its host was not asked yet, or does not answer: a worker may run there, until it was cancelled."""
    site.agent.writes, site.agent.failure = False, Failure(code="ToolFailed", message="no")
    backup, job = site.take("b")
    site.real.put(f"{backup.container}/{backup.id}/00000000", b"half")
    presence = site.control.agents.presence
    presence.expect("local")
    assert run_stages(site.control, job, killed=Died) is not None
    assert SWEEP.run(site.control) == SOON
    assert len(list(site.real.list(backup.container))) == 1
    presence.missed("local", HostSilent("the agent of host local does not answer"))
    assert SWEEP.run(site.control) is None
    assert len(list(site.real.list(backup.container))) == 1
    presence.heard("local")
    finish_failed(site.control)
    assert len(list(site.real.list(backup.container))) == 1
    presence.settle("local")
    finish_failed(site.control)
    assert list(site.real.list(backup.container)) == []


def test_failed_backup_without_a_manifest_is_removed(site: Site) -> None:
    site.agent.writes, site.agent.failure = False, Failure(code="ToolFailed", message="no")
    backup, job = site.take("b")
    site.real.put(f"{backup.container}/{backup.id}/00000000", b"half")
    failure = run_stages(site.control, job, killed=Died)
    assert failure is not None
    assert failure["message"] == "no"
    assert list(site.real.list(backup.container)) == []
    site.require_truth(backup)


def test_sweep_finishes_backups_that_a_refusing_store_left(site: Site) -> None:
    site.store.fail = lambda call: StorageDenied("the key has expired")
    backup, job = site.take("b")
    failure = run_stages(site.control, job, killed=Died)
    assert failure is not None
    assert failure["message"] == "the key has expired"
    assert site.is_whole(backup)
    site.store.fail = lambda call: None
    finish_failed(site.control)
    assert site.row(backup).status == "COMPLETED"
    site.require_truth(backup)


def test_manifest_that_the_store_shows_late_does_not_count_as_missing(site: Site) -> None:
    from strongroom.errors import StorageNotFound

    site.store.fail = lambda call: StorageNotFound("not here yet") if call.startswith("get") else None
    backup, job = site.take("b")
    assert run_stages(site.control, job, killed=Died) is not None
    assert site.is_whole(backup)
    site.store.fail = lambda call: None
    finish_failed(site.control)
    site.require_truth(backup)
    assert site.row(backup).status == "COMPLETED"


def test_unreadable_manifest_is_left_to_users(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version may have written it."""
    backup, job = site.take("b")
    monkeypatch.setattr(site.store, "get", lambda key, **_: b"{}")
    assert run_stages(site.control, job, killed=Died) is not None
    for _ in range(2):
        finish_failed(site.control)
        assert site.row(backup).status == "FAILED"
        assert site.is_whole(backup)


def test_concurrent_deletion_is_not_undone(site: Site) -> None:
    backup, job = site.take("b")
    site.store.fail = lambda call: StorageDenied("the key has expired")
    run_stages(site.control, job, killed=Died)

    def ask(call: str) -> None:
        if call.startswith("get"):
            with site.control.catalog.write() as session:
                row = session.get(Backup, backup.id)
                assert row is not None
                row.status = "DELETING"

    site.store.fail = ask
    assert not artifact_end.finish_left(site.control, job.id)
    assert site.row(backup).status == "DELETING"
