"""The catalog is rebuilt from a store: names and protection come back, and many backups are no burden."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from strongroom.artifact import Label, Location, load_label, put_label
from strongroom.catalog import Backup, Hold, Job, open_catalog
from strongroom.catalog.find import find_job
from strongroom.errors import Cancelled, Protected, StorageDenied, StorageNotFound
from strongroom.flows import Site, open_site
from strongroom.flows.chores.sweep import SWEEP
from strongroom.flows.kinds import rebuild as rebuilding
from strongroom.flows.kinds.deletion import request_delete_backup
from strongroom.flows.kinds.label import change_backup, hold_backup, release_backup, store_labels
from strongroom.flows.kinds.rebuild import rebuild, request_rebuild
from strongroom.settings import load
from strongroom.storage import Stat, Store, open_store
from support.artifacts import write_artifact
from support.ends import settle
from support.stores import Wrapped

HERE = Location(container="box", id="one")


def open_control(place: Path) -> Site:
    place.mkdir()
    settings = load(service={"data_dir": place}, storage={"path": str(place.parent / "store")})
    control = open_site(settings, open_catalog(settings), open_store(settings.storage, settings.store_path), {})
    control.queue.start = lambda job: None
    return control


def run(control: Site, job: Job) -> Job:
    asyncio.run(rebuild(control, job.id))
    with control.catalog.write() as session:
        settle(session, find_job(session, None, job.id), None)
    with control.catalog.read() as session:
        return find_job(session, None, job.id)


def backup(control: Site) -> Backup:
    with control.catalog.read() as session:
        row = session.get(Backup, HERE.id)
        assert row is not None
        return row


def change(control: Site, **changes: Any) -> None:
    """As the API does, and the job that follows."""
    jobs: list[Job] = []
    control.queue.start = jobs.append
    change_backup(control, "p", HERE.id, name=changes.get("name"), protected=changes.get("protected"))
    for job in jobs:
        asyncio.run(store_labels(control, job.id))


@pytest.mark.parametrize("deletable", [True, False])
def test_names_and_protection_survive_the_catalog(place: Path, deletable: bool) -> None:
    control = open_control(place / "a")
    store = control.stores.default
    write_artifact(store, HERE, b"data", name="monday", project="p")
    run(control, request_rebuild(control, "p"))

    class Locked(Wrapped):
        def delete(self, keys: Any) -> None:
            raise StorageDenied("objects are locked")

    if not deletable:
        control.stores.default = Locked(store)
    change(control, name="before-migration")
    change(control, protected=True)
    change(control, protected=True)
    assert len(list(store.list(HERE.labels))) == (1 if deletable else 2)
    other = open_control(place / "b")
    run(other, request_rebuild(other, "p"))
    assert (backup(other).name, backup(other).protected) == ("before-migration", True)
    # a protection that an earlier version did not store
    with control.catalog.write() as session:
        row = session.get(Backup, HERE.id)
        assert row is not None
        row.name = "renamed long ago"
    SWEEP.run(control)
    label = load_label(store, HERE)
    assert label is not None
    assert (label.name, label.protected) == ("renamed long ago", True)
    # an object of somebody else changes nothing
    store.put(f"{HERE.labels}/00000009.json", b'{"id": "two", "container": "box", "name": "x", "at": "2026-01-01T00:00:00Z"}')
    put_label(store, Label(id="one", container="box", name="x\x1b[2J", protected=True))
    third = open_control(place / "c")
    run(third, request_rebuild(third, "p"))
    assert (backup(third).name, backup(third).protected) == ("monday", True)


def test_holds_survive_the_catalog(place: Path) -> None:
    control = open_control(place / "a")
    store = control.stores.default
    write_artifact(store, HERE, b"data", name="monday", project="p")
    run(control, request_rebuild(control, "p"))
    jobs: list[Job] = []
    control.queue.start = jobs.append
    until = datetime(2099, 1, 1, tzinfo=UTC)
    hold_backup(control, "p", HERE.id, reason="audit 2026", until=until)
    asyncio.run(store_labels(control, jobs[-1].id))

    other = open_control(place / "b")
    assert run(other, request_rebuild(other, "p", dry_run=True)).output["backups"][0]["held"] is True
    run(other, request_rebuild(other, "p"))
    with other.catalog.read() as session:
        hold = session.get_one(Hold, HERE.id)
        assert (hold.reason, hold.until, hold.created) == ("audit 2026", until, control_hold(control).created)
    with pytest.raises(Protected, match="held until 2099-01-01 00:00 UTC: audit 2026"):
        request_delete_backup(other, "p", HERE.id)

    # the daily sweep repairs a label that its job could not store
    hold_backup(control, "p", HERE.id, reason="court order")
    SWEEP.run(control)
    label = load_label(store, HERE)
    assert label is not None and label.hold is not None
    assert (label.hold.reason, label.hold.until) == ("court order", None)
    release_backup(control, "p", HERE.id)
    asyncio.run(store_labels(control, jobs[-1].id))
    third = open_control(place / "c")
    run(third, request_rebuild(third, "p"))
    with third.catalog.read() as session:
        assert session.get(Hold, HERE.id) is None


def control_hold(control: Site) -> Hold:
    with control.catalog.read() as session:
        return session.get_one(Hold, HERE.id)


class Many(Wrapped):
    """A store with one backup under many ids."""

    def __init__(self, store: Store, count: int) -> None:
        super().__init__(store)
        self.ids = [f"b{number:07}" for number in range(count)]
        write_artifact(store, Location(container="box", id="template"), b"data", name="n", project="p")
        self.manifest = store.get("box/template/manifest.json")

    def folders(self, prefix: str = "") -> Iterator[str]:
        yield from self.ids if prefix else ["box"]

    def get(self, key: str, *, start: int = 0, length: int | None = None) -> bytes:
        _, name, *rest = key.split("/")
        if rest != ["manifest.json"]:
            raise StorageNotFound(key)
        return self.manifest.replace(b"template", name.encode())

    def list(self, prefix: str) -> Iterator[Stat]:
        return iter(())


def test_rebuild_of_thousands_of_backups_blocks_no_writer_and_can_be_cancelled(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = open_control(place / "a")
    count = 3_000
    control.stores.default = Many(control.stores.default, count)
    monkeypatch.setattr(rebuilding, "PROGRESS", 0.1)
    job = request_rebuild(control, "p")
    with control.catalog.write() as session:
        find_job(session, None, job.id).cancel = True
    with pytest.raises(Cancelled, match="the backups that it added stay"):
        asyncio.run(rebuild(control, job.id))
    with control.catalog.write() as session:
        find_job(session, None, job.id).cancel = False
    done = run(control, job)
    assert (done.output["added"], len(done.output["backups"])) == (count, 1000)
    assert done.events > 3
    assert done.done > count / 2
