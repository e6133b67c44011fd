"""What verify jobs find out: kept in the catalog and in the store, for every backup of the chain, and obeyed."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any, ClassVar

import pytest

from strongroom.api.backups.views import make_backup_views
from strongroom.artifact import Location, Parent, Positions, load_verification, read_manifest
from strongroom.catalog import Backup, Host, Job, open_catalog
from strongroom.catalog.find import find_job
from strongroom.errors import InvalidRequest, StorageDenied, StorageError, StrongroomError
from strongroom.flows import open_site
from strongroom.flows.backups import verification
from strongroom.flows.chores.sweep import SWEEP
from strongroom.flows.follow import make_request
from strongroom.flows.kinds.rebuild import rebuild, request_rebuild
from strongroom.flows.kinds.verify import request_verify
from strongroom.settings import load
from strongroom.storage import open_store
from strongroom.worker._events import EventLog
from strongroom.worker._verify import verify
from strongroom.worker.spec import VerifyJob, WorkerSpec
from support.artifacts import noise, write_artifact
from support.ends import settle
from support.stores import Wrapped

NAMES = ("full", "one", "two")


class Site:
    """A control plane with a chain of three backups in a directory store; verify jobs run in this process."""

    def __init__(self, place: Path) -> None:
        self.place = place
        settings = load(service={"data_dir": place}, storage={"path": str(place / "store")})
        self.store = open_store(settings.storage, settings.store_path)
        self.control = open_site(settings, open_catalog(settings), self.store, {"local": lambda: None})  # type: ignore[dict-item, return-value]
        self.control.queue.start = lambda job: None
        version = {"datastore": "mariadb", "series": "10.11", "number": "10.11.19", "programs": {}}
        with self.control.catalog.write() as session:
            session.add(Host(name="local", view={"versions": [version], "free_bytes": 1 << 40}))
        parent: Location | None = None
        for number, name in enumerate(NAMES):
            fields: dict[str, Any] = {"project": "p", "positions": Positions(from_lsn=number * 100, to_lsn=(number + 1) * 100)}
            if parent is not None:
                sha256 = read_manifest(self.store, parent)[1]
                fields |= {
                    "kind": "incremental",
                    "chain": "full",
                    "parent": Parent(location=parent, manifest_sha256=sha256),
                }
            parent = Location(container="box", id=name)
            write_artifact(self.store, parent, noise(300_000, number), name=name, **fields)
        self.add_rows()

    def add_rows(self) -> None:
        job = request_rebuild(self.control, "p")
        asyncio.run(rebuild(self.control, job.id))
        self.settle(job.id, None)

    def settle(self, job_id: str, failure: dict[str, str] | None) -> None:
        with self.control.catalog.write() as session:
            settle(session, find_job(session, None, job_id), failure)

    def verify(self, name: str, **options: Any) -> Job:
        """Run a verify job to its end, as engine and worker do."""
        job = request_verify(self.control, "p", name, **options)
        with self.control.catalog.read() as session:
            asked = make_request(self.control, session, job).job
        assert isinstance(asked, VerifyJob)
        spec = WorkerSpec(id=job.id, job=asked, user="root", work_dir=self.place / "work")
        failure: dict[str, str] | None = None
        try:
            output = verify(spec, asked, EventLog(self.place / "events.jsonl"))
        except StrongroomError as error:
            failure, output = error.to_dict(), dict(error.output or {})
        with self.control.catalog.write() as session:
            find_job(session, None, job.id).output = output
        asyncio.run((verification.clean if failure else verification.record)(self.control, job.id))
        self.settle(job.id, failure)
        with self.control.catalog.read() as session:
            return find_job(session, None, job.id)

    def damage(self, name: str) -> Path:
        segment = self.place / "store" / "box" / name / "00000001"
        data = bytearray(segment.read_bytes())
        data[len(data) // 2] ^= 1
        segment.write_bytes(data)
        return segment

    def view(self, name: str) -> Any:
        with self.control.catalog.read() as session:
            row = session.get(Backup, name)
            assert row is not None
            return make_backup_views(session, [row])[0]


@pytest.fixture
def site(place: Path) -> Site:
    return Site(place)


def test_incremental_is_verified_with_all_its_parents(site: Site) -> None:
    job = site.verify("two")
    assert job.output["chain"] == list(NAMES)
    assert (job.output["links"], job.output["level"]) == (3, "content")
    assert job.output["raw_size"] == 900_000
    for number, name in enumerate(NAMES, 1):
        verified = site.view(name).verified
        assert (verified.ok, verified.level, verified.links) == (True, "content", number)
        stored = load_verification(site.store, Location(container="box", id=name), read_manifest(site.store, site_at(name))[1])
        assert stored is not None
        assert (stored.ok, stored.job, stored.links) == (True, job.id, number)
    assert site.verify("two", chain=False).output["raw_size"] == 300_000


def site_at(name: str) -> Location:
    return Location(container="box", id=name)


def test_damage_of_a_full_applies_to_its_children_and_survives_the_catalog(site: Site) -> None:
    site.damage("full")
    job = site.verify("two")
    assert job.fault is not None
    assert job.fault["code"] == "ArtifactCorrupt"
    assert "backup box/full, on which it is based, is damaged" in job.fault["message"]
    for name in NAMES:
        view = site.view(name)
        assert not view.restorable
        assert "damaged" in view.unrestorable_reason
        assert view.verified is not None
        assert not view.verified.ok
    assert "backup full (full), on which it is based" in site.view("one").unrestorable_reason
    # a look at sizes finds nothing, and lifts nothing
    quick = site.verify("full", quick=True)
    assert (quick.status, quick.output["level"]) == ("succeeded", "sizes")
    assert "remains valid until an equally thorough verification succeeds" in quick.output["warnings"][0]
    assert not site.view("full").restorable
    # the catalog is lost
    with site.control.catalog.write() as session:
        for name in NAMES:
            session.delete(session.get(Backup, name))
    site.add_rows()
    assert [site.view(name).restorable for name in NAMES] == [False, False, False]
    # the segment is put back: a verification of the chain finds it good
    site.damage("full")
    assert site.verify("two").status == "succeeded"
    assert [site.view(name).restorable for name in NAMES] == [True, True, True]


@pytest.mark.parametrize("what", ["manifest", "segment", "another manifest"])
def test_damaged_backup_is_named(site: Site, what: str) -> None:
    if what == "manifest":
        (site.place / "store" / "box" / "one" / "manifest.json").unlink()
    elif what == "segment":
        (site.place / "store" / "box" / "one" / "00000000").unlink()
    else:
        path = site.place / "store" / "box" / "one" / "manifest.json"
        path.write_text(path.read_text().replace('"host": ""', '"host": "x"'))
    assert site.verify("two").status == "failed"
    assert (site.view("full").restorable, site.view("one").restorable, site.view("two").restorable) == (True, False, False)
    kept = sorted(path.parts[-3] for path in (site.place / "store" / "box").glob("*/verifications/*"))
    assert kept == {"manifest": [], "segment": ["full", "one", "two"], "another manifest": ["one"]}[what]


def test_outage_proves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.verify("two")
    before = [site.view(name).verified for name in NAMES]

    def away(*_: Any, **__: Any) -> None:
        raise StorageError("the store does not answer")

    monkeypatch.setattr("strongroom.worker._verify.read_all", away)
    assert site.verify("two").status == "failed"
    assert [site.view(name).verified for name in NAMES] == before


def test_few_calls_of_the_store_for_each_backup_of_a_chain(site: Site) -> None:
    """Chains have thousands. A result is written with four calls, and a sweep asks nothing about backups that are complete."""

    class Counted(Wrapped):
        calls: ClassVar[list[str]] = []

        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            self.calls.append(f"get {key}")
            return super().get(key, start=start, length=length)

        def head(self, key: str) -> Any:
            self.calls.append(f"head {key}")
            return super().head(key)

        def put(self, key: str, data: Any, *, create: bool = False) -> Any:
            self.calls.append(f"put {key}")
            return super().put(key, data, create=create)

        def list(self, prefix: str) -> Any:
            self.calls.append(f"list {prefix}")
            return super().list(prefix)

        def delete(self, keys: Any) -> None:
            self.calls.append("delete")
            super().delete(keys)

    site.control.stores.default = counted = Counted(site.store)
    for _ in range(3):
        counted.calls.clear()
        site.verify("two")
        assert len(counted.calls) <= 4 * len(NAMES), counted.calls
    counted.calls.clear()
    SWEEP.run(site.control)
    assert counted.calls == []


@pytest.mark.parametrize("quick", [False, True])
def test_unmounted_store_proves_nothing(site: Site, quick: bool) -> None:
    """The folder of the container is there, as the place to mount it, but it is empty."""
    site.verify("two")
    before = [site.view(name).verified for name in NAMES]
    container = site.place / "store" / "box"
    container.rename(site.place / "unmounted")
    container.mkdir()
    job = site.verify("two", quick=quick)
    assert job.fault is not None
    assert job.fault["code"] == "StorageError"
    assert "nothing is known of its backups" in job.fault["message"]
    assert [site.view(name).verified for name in NAMES] == before
    job = request_rebuild(site.control, "p")
    with pytest.raises(StorageError, match="shows no backups and no containers"):
        asyncio.run(rebuild(site.control, job.id))


def test_rebuild_from_a_new_store_warns(place: Path) -> None:
    settings = load(service={"data_dir": place}, storage={"path": str(place / "store")})
    store = open_store(settings.storage, settings.store_path)
    control = open_site(settings, open_catalog(settings), store, {"local": lambda: None})  # type: ignore[dict-item, return-value]
    control.queue.start = lambda job: None
    job = request_rebuild(control, "p")
    asyncio.run(rebuild(control, job.id))
    with control.catalog.read() as session:
        output = find_job(session, None, job.id).output or {}
    assert output["found"] == 0
    assert "shows no backups and no containers" in output["warning"]


def test_rebuild_during_an_outage_reports_no_backup_as_broken(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Wrapped):
        away = 0

        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            Failing.away += key.endswith("manifest.json")
            if Failing.away > 1:
                raise StorageError("the store does not answer")
            return super().get(key, start=start, length=length)

        def list(self, prefix: str) -> Any:
            if Failing.away > 1:
                raise StorageError("the store does not answer")
            return super().list(prefix)

        def folders(self, prefix: str = "") -> Any:
            if Failing.away > 1:
                raise StorageError("the store does not answer")
            return super().folders(prefix)

    site.control.stores.default = Failing(site.store)
    job = request_rebuild(site.control, "p")
    with pytest.raises(StorageError, match="does not answer"):
        asyncio.run(rebuild(site.control, job.id))
    assert Failing.away == 2


def test_verification_succeeds_if_its_result_cannot_be_stored(site: Site) -> None:
    class Closed(Wrapped):
        def put(self, key: str, data: Any, *, create: bool = False) -> Any:
            raise StorageDenied("read-only")

    site.control.stores.default = Closed(site.store)
    job = site.verify("two")
    assert job.status == "succeeded"
    assert "could not be written to the store: read-only" in job.output["warnings"][0]
    assert site.view("full").verified.ok


def test_rebuild_reads_the_store_without_blocking_writers(site: Site) -> None:
    """A store may take minutes to answer."""

    class Asked(Wrapped):
        waited = False

        def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
            other = threading.Thread(target=write, daemon=True)
            other.start()
            other.join(10)
            self.waited |= other.is_alive()
            return super().get(key, start=start, length=length)

    def write() -> None:
        with site.control.catalog.write() as session:
            session.get(Backup, "full")

    write()
    with site.control.catalog.write() as session:
        for name in NAMES:
            session.delete(session.get(Backup, name))
    site.control.stores.default = asked = Asked(site.store)
    site.add_rows()
    assert not asked.waited
    assert [site.view(name).restorable for name in NAMES] == [True, True, True]


def test_quick_verification_restores_nothing(site: Site) -> None:
    with pytest.raises(InvalidRequest, match="restores nothing"):
        request_verify(site.control, "p", "two", quick=True, prepare=True)
