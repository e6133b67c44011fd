"""Who may record and import what, and what of it the requests refuse. What becomes of it is in the end-to-end tests."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from strongroom.artifact import ForeignBackup, Location, Positions, Profile
from strongroom.catalog import Backup, Host, Job, open_catalog
from strongroom.catalog.find import find_job
from strongroom.errors import Busy, Conflict, Forbidden, InvalidRequest, NotFound, QuotaExceeded, StorageError, StrongroomError
from strongroom.flows import Site, open_site, version_id
from strongroom.flows.backups.sources import source_of
from strongroom.flows.kinds.create import request_instance
from strongroom.flows.kinds.deletion import delete_stored, request_delete_backup
from strongroom.flows.kinds.foreign import record_import, request_import, request_restore_from
from strongroom.flows.kinds.rebuild import rebuild, request_rebuild
from strongroom.flows.kinds.verify import request_verify
from strongroom.settings import load
from strongroom.storage import open_store
from support.artifacts import mb_file, write_artifact
from support.ends import begin, settle

GB = 1024**3


@pytest.fixture
def control(place: Path) -> Site:
    settings = load(service={"data_dir": place}, quotas={"backups": 20})
    catalog = open_catalog(settings)
    control = open_site(settings, catalog, open_store(settings.storage, settings.store_path), {"local": lambda: None})  # type: ignore[dict-item, return-value]
    control.queue.start = lambda job: None
    versions = [
        {"datastore": "mariadb", "series": s, "number": n, "programs": {}} for s, n in (("10.6", "10.6.9"), ("10.11", "10.11.19"))
    ]
    with catalog.write() as session:
        session.add(Host(name="local", view={"versions": versions, "free_bytes": 100 * GB}))
    return control


def put(control: Site, name: str, top: Path | None = None) -> Path:
    path = (top or control.settings.store_path / "box") / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(b"".join(mb_file("ibdata1", b"x"))))
    return path


def own(control: Site, id: str = "aaaa", *, project: str = "p", **fields: Any) -> Location:
    location = Location(container="box", id=id)
    write_artifact(control.stores.default, location, b"stream", project=project, name=f"name of {id}", **fields)
    return location


def record(control: Site, location: str, project: str = "p", **more: Any) -> Backup:
    options: dict[str, Any] = {"name": "r", "version": "10.11", "size": 0.3} | more
    return request_restore_from(control, project, location=location, **options)


def done(control: Site, job: Job, from_lsn: int, to_lsn: int, **more: Any) -> Backup:
    """What the worker and the flow do after the request."""
    with control.catalog.write() as session:
        row = session.get(Backup, job.backup_id)
        assert row is not None
        positions = Positions(from_lsn=from_lsn, to_lsn=to_lsn)
        kind = "incremental" if from_lsn else "full"
        found = [b.model_copy(update={"positions": positions, "kind": kind, **more}) for b in source_of(row).foreign]
        begin(session, find_job(session, None, job.id))
        find_job(session, None, job.id).output = {"backups": [b.model_dump(mode="json") for b in found], "files": 1}
    failure = None
    try:
        asyncio.run(record_import(control, job.id))
    except StrongroomError as error:
        failure = error.to_dict()
    with control.catalog.write() as session:
        settle(session, find_job(session, None, job.id), failure)
        found_row = session.get(Backup, job.backup_id)
        assert found_row is not None
    return found_row


def test_register_an_artifact_of_this_service(control: Site) -> None:
    location = own(control, positions=Positions(from_lsn=0, to_lsn=100), profile=Profile(settings={"innodb_page_size": "8192"}))
    row = record(control, f"file:///mnt/west/{location.prefix}", description="d")
    assert (row.status, row.kind, row.instance_id, row.parent_id, row.description) == ("RESTORED", "full", None, None, "d")
    assert row.data_size == round(0.3 * GB)
    assert row.id != location.id
    assert source_of(row).artifact == location
    assert row.profile == {"settings": {"innodb_page_size": "8192"}}  # nodes of a restored cluster, and the plan, depend on it
    assert (
        record(control, f"{location.container}/{location.id}.xbstream.zst", version=version_id("mariadb", "10.11")).status
        == "RESTORED"
    )
    instance, _ = request_instance(control, "p", name="new", backup=row.id)
    assert instance.series == "10.11"
    request_verify(control, "p", row.id, prepare=True)


@pytest.mark.parametrize("version", ["10.6", "10.4", "nonsense", version_id("mariadb", "10.6")])
def test_registered_backup_must_match_the_given_version(control: Site, version: str) -> None:
    with pytest.raises(InvalidRequest):
        record(control, own(control).prefix, version=version)


def test_only_administrators_register_backups_of_other_or_unknown_projects(control: Site) -> None:
    location = own(control, project="p")
    put(control, "one.xbstream.gz")
    for place in (location.prefix, "box/one.xbstream.gz", "box/gone.xbstream.gz"):
        with pytest.raises(Forbidden) as refused:
            record(control, place, "q")
        assert "one" not in refused.value.message or "one" in place
    assert record(control, location.prefix, "q", admin=True).project == "q"
    assert record(control, "box/one.xbstream.gz", "q", admin=True).codec == "gzip"
    told = set()
    for place in (location.prefix, "box/one.xbstream.gz", "box/gone.xbstream.gz"):  # whether it is there is not told either
        with pytest.raises(Forbidden) as refused:
            request_import(control, "q", name="i", location=place)
        told.add(refused.value.message.replace(place, ""))
    assert len(told) == 1
    with pytest.raises(InvalidRequest):
        record(control, "box/gone.xbstream.gz", "q", admin=True)


def test_only_operators_may_import_paths_of_the_host(control: Site, place: Path) -> None:
    path = put(control, "one.xbstream.gz", place / "elsewhere")
    for location in (str(path), path.as_uri(), "/etc/shadow", "/etc/shadow.gz"):
        with pytest.raises(Forbidden, match="paths on the host"):
            request_import(control, "p", name="i", location=location, admin=True)
    row, job = request_import(control, "p", name="i", location=str(path), paths=True)
    assert (row.status, row.location, job.host) == ("NEW", path.as_uri(), "local")
    with pytest.raises(NotFound):
        request_import(control, "p", name="i", location=str(path.with_name("gone.gz")), paths=True)
    with pytest.raises(NotFound):
        request_import(control, "p", name="i", location=str(place / "no" / "one.gz"), paths=True)


def test_own_artifact_needs_no_import(control: Site) -> None:
    with pytest.raises(InvalidRequest, match="written by Strongroom"):
        request_import(control, "p", name="i", location=f"{own(control).prefix}.xbstream.gz", admin=True)


def test_parent_is_found_by_metadata_or_lsn_or_name(control: Site) -> None:
    put(control, "one.xbstream.gz")
    child = put(control, "two.xbstream.gz")
    child.with_name(f"{child.name}.meta.json").write_text(json.dumps({"parent-location": "x/box/one.xbstream.gz"}))
    full = done(control, request_import(control, "p", name="full", location="box/one.xbstream.gz", admin=True)[1], 0, 100)
    assert (full.status, full.kind, full.positions) == ("RESTORED", "full", {"from_lsn": 0, "to_lsn": 100})
    row, job = request_import(control, "p", name="meta", location="box/two.xbstream.gz", admin=True)
    assert (row.parent_id, row.chain_id, len(source_of(row).foreign)) == (full.id, full.id, 1)
    assert done(control, job, 100, 200).status == "RESTORED"

    put(control, "incremental-1.gz")
    _, job = request_import(control, "p", name="named", location="box/incremental-1.gz", parent="full", admin=True)
    failed = done(control, job, 101, 200)
    assert (failed.status, failed.fault and failed.fault["code"]) == ("FAILED", "ArtifactCorrupt")
    _, job = request_import(control, "p", name="by-lsn", location="box/incremental-1.gz", admin=True)
    assert done(control, job, 200, 300).parent_id == row.id
    _, job = request_import(control, "p", name="nobody's", location="box/incremental-1.gz", admin=True)
    alone = done(control, job, 999, 1000)
    assert alone.status == "FAILED"
    assert alone.fault
    assert "no imported backup ends there" in alone.fault["message"]
    done(control, request_import(control, "p", name="again", location="box/one.xbstream.gz", admin=True)[1], 0, 100)
    _, job = request_import(control, "p", name="whose", location="box/incremental-1.gz", admin=True)
    twice = done(control, job, 100, 150)
    assert twice.fault
    assert "2 imported backups end there" in twice.fault["message"]
    # Projects see nothing of each other, nor do containers.
    _, job = request_import(control, "q", name="q", location="box/incremental-1.gz", admin=True)
    assert done(control, job, 100, 150).status == "FAILED"


def test_parent_of_an_imported_backup_must_be_imported(control: Site) -> None:
    put(control, "incremental-1.gz")
    record(control, own(control).prefix, name="ours")
    with pytest.raises(InvalidRequest, match="was not imported"):
        request_import(control, "p", name="i", location="box/incremental-1.gz", parent="ours", admin=True)
    put(control, "one.xbstream.gz")
    request_import(control, "p", name="new", location="box/one.xbstream.gz", admin=True)
    with pytest.raises(Conflict):
        request_import(control, "p", name="i", location="box/incremental-1.gz", parent="new", admin=True)


def test_deleting_a_registered_backup_keeps_its_objects(control: Site) -> None:
    location = own(control)
    path = put(control, "one.xbstream.gz")
    rows = [record(control, location.prefix), record(control, "box/one.xbstream.gz", admin=True)]
    for row in rows:
        job = request_delete_backup(control, "p", row.id)
        asyncio.run(delete_stored(control, job.id))
        with control.catalog.write() as session:
            settle(session, find_job(session, None, job.id), None)
        with pytest.raises(NotFound):
            request_verify(control, "p", row.id, prepare=False)
    control.stores.default.head(location.manifest)
    assert path.exists()


def test_missing_or_changed_sources_cannot_be_restored(control: Site) -> None:
    location = own(control)
    path = put(control, "one.xbstream.gz")
    ours, theirs = record(control, location.prefix), record(control, "box/one.xbstream.gz", admin=True)
    manifest = control.stores.default.get(location.manifest)
    control.stores.default.put(location.manifest, manifest + b"\n")
    path.write_bytes(path.read_bytes() + b"\0")
    for row in (ours, theirs):
        with pytest.raises(Conflict, match="which was changed"):
            request_instance(control, "p", name="new", backup=row.id)
    box = path.parent
    box.rename(box.with_name("unmounted"))
    for row in (ours, theirs):
        with pytest.raises(StorageError, match="nothing is known of its backups"):
            request_instance(control, "p", name="new", backup=row.id)
    box.with_name("unmounted").rename(box)
    control.stores.default.delete([location.manifest])
    path.unlink()
    for row in (ours, theirs):
        with pytest.raises(NotFound, match="which no longer exists"):
            request_instance(control, "p", name="new", backup=row.id)


def test_registered_and_imported_backups_count(control: Site) -> None:
    location = own(control).prefix
    for _ in range(20):
        record(control, location)
    with pytest.raises(QuotaExceeded):
        record(control, location)
    put(control, "one.xbstream.gz")
    with pytest.raises(QuotaExceeded):
        request_import(control, "p", name="i", location="box/one.xbstream.gz", admin=True)


def test_repeated_end_of_an_import_changes_nothing(control: Site) -> None:
    put(control, "one.xbstream.gz")
    _, job = request_import(control, "p", name="i", location="box/one.xbstream.gz", admin=True)
    first = done(control, job, 0, 100, raw_size=7, data_size=8)
    asyncio.run(record_import(control, job.id))
    with control.catalog.read() as session:
        row = session.get(Backup, first.id)
        assert row is not None
        assert (row.raw_size, row.data_size, row.status, row.updated) == (7, 8, "RESTORED", first.updated)
        assert isinstance(source_of(row).foreign[0], ForeignBackup)


def test_rebuild_finds_backups_of_all_projects_and_runs_once_at_a_time(control: Site) -> None:
    own(control, "a" * 36, project="p")
    own(control, "b" * 36, project="q", instance_id="i", lineage="L")
    own(control, "c" * 37, project="q")
    job = request_rebuild(control, "p")
    with pytest.raises(Busy):
        request_rebuild(control, "q")
    asyncio.run(rebuild(control, job.id))
    asyncio.run(rebuild(control, job.id))  # a step may be repeated
    with control.catalog.read() as session:
        output = find_job(session, None, job.id).output
        rows = {row.id[0]: row for row in session.query(Backup)}
    assert (output["found"], output["known"], output["added"], output["broken"]) == (3, 2, 0, 1)
    assert {key: (row.project, row.status, row.source) for key, row in rows.items()} == {
        "a": ("p", "COMPLETED", None),
        "b": ("q", "COMPLETED", None),
    }
    assert (rows["b"].instance_id, rows["b"].lineage, rows["b"].name) == ("i", "L", "name of " + "b" * 36)
    with pytest.raises(InvalidRequest):
        request_rebuild(control, "p", container="../x")
