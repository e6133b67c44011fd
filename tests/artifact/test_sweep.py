"""Stores with many artifacts: listed, deleted, swept of what dead writers left, and never of anything else."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import pytest

from strongroom.artifact import Location, Manifest, Problem, Writer, delete_artifact, list_artifacts, open_artifact, sweep_orphans
from strongroom.errors import ArtifactMissing, ManifestInvalid, StorageError
from strongroom.sections import Storage
from strongroom.storage import DirectoryStore, Store, open_store
from support.artifacts import SMALL, feed, noise, take, write_artifact

DATA = noise(300_000)
NOW, HOUR = timedelta(0), timedelta(hours=1)


def at(name: str, container: str = "box") -> Location:
    return Location(container=container, id=name)


def begin(store: Store, location: Location, owner: str) -> Writer:
    writer = Writer(store, location, SMALL, stream="plain", owner=owner)
    writer.open()
    feed(DATA, writer.copy_from)
    writer._drain()
    return writer


def never(_: str) -> bool:
    return False


def test_list_artifacts_for_a_catalog(store: Store, top: Path) -> None:
    one = write_artifact(store, at("one"), DATA)
    two = write_artifact(store, at("two", "other"), DATA)
    begin(store, at("unfinished"), "us")
    write_artifact(store, at("broken"), DATA)
    (top / "box" / "broken" / "manifest.json").write_text("{")
    store.put("box/what is this/file", b"x")
    found = {(item.container, item.id): item for item in list_artifacts(store)}
    assert found["box", "one"] == one
    assert found["other", "two"] == two
    kinds = {name: type(item.error) for (_, name), item in found.items() if isinstance(item, Problem)}
    assert kinds == {"unfinished": ArtifactMissing, "broken": ManifestInvalid, "what is this": ManifestInvalid}
    assert [item.id for item in list_artifacts(store, "other")] == ["two"]
    assert list(list_artifacts(store, "nowhere")) == []


def test_delete_removes_everything_of_the_backup_and_nothing_else(store: Store, top: Path) -> None:
    write_artifact(store, at("one"), DATA)
    write_artifact(store, at("two"), DATA)
    delete_artifact(store, at("one"))
    delete_artifact(store, at("one"))
    assert [path.name for path in (top / "box").iterdir()] == ["two"]
    assert take(open_artifact(store, at("two"))) == DATA


def test_partly_deleted_artifact_is_not_a_backup_and_can_be_deleted_again(top: Path) -> None:
    class Dying(DirectoryStore):
        calls = -100

        def delete(self, keys: Iterable[str]) -> None:
            self.calls += 1
            if self.calls == 2:
                super().delete(list(keys)[:2])
                raise StorageError("gone away")
            super().delete(keys)

    store = Dying(top)
    write_artifact(store, at("one"), DATA)
    store.calls = 0
    with pytest.raises(StorageError, match="gone away"):
        delete_artifact(store, at("one"))
    with pytest.raises(ArtifactMissing):
        open_artifact(store, at("one"))
    delete_artifact(store, at("one"))
    assert list(store.list("")) == []


def test_sweep_removes_only_dead_backups_of_this_service(store: Store, top: Path) -> None:
    write_artifact(store, at("good"), DATA, owner="us")
    begin(store, at("dead"), "us")
    begin(store, at("running"), "us")
    begin(store, at("theirs"), "them")
    begin(store, at("unsigned"), "us")
    store.delete([at("unsigned").intent])
    begin(store, at("nonsense"), "us")
    store.put(at("nonsense").intent, b"[")
    begin(store, at("dead", "other"), "us")
    before = {stat.key for stat in store.list("")}
    swept = sweep_orphans(store, "us", lambda name: name == "running", NOW)
    assert swept == [at("dead"), at("dead", "other")]
    gone = before - {stat.key for stat in store.list("")}
    assert {key.rsplit("/", 1)[0] for key in gone} == {"box/dead", "other/dead"}
    assert sweep_orphans(store, "us", lambda name: name == "running", NOW) == []


def test_sweep_waits_until_nothing_is_written_any_more(store: Store, top: Path) -> None:
    begin(store, at("dead"), "us")
    assert sweep_orphans(store, "us", never, HOUR) == []
    old = time.time() - 3700
    files = sorted((top / "box" / "dead").iterdir())
    for file in files[1:]:
        os.utime(file, (old, old))
    assert sweep_orphans(store, "us", never, HOUR) == []
    os.utime(files[0], (old, old))
    assert sweep_orphans(store, "us", never, HOUR) == [at("dead")]


def test_sweep_of_the_temporary_file_of_a_killed_writer(store: Store, top: Path) -> None:
    folder = top / "box" / "dead"
    folder.mkdir(parents=True)
    (folder / ".intent.json.0123456789abcdef").write_bytes(b"{")
    assert list(store.list("")) == []
    assert sweep_orphans(store, "us", never, NOW) == []
    assert not folder.exists()


def test_sweep_never_affects_an_unknown_writer(top: Path) -> None:
    """Another service writes into the same store while ours sweeps, again and again."""
    import threading

    done = threading.Event()
    store = open_store(Storage(), top)

    def sweep() -> None:
        while not done.is_set():
            sweep_orphans(store, "us", never, NOW)

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        manifests = [write_artifact(open_store(Storage(), top), at(f"b{n}"), DATA, owner="them") for n in range(15)]
    finally:
        done.set()
        sweeper.join()
    assert all(isinstance(item, Manifest) for item in list_artifacts(store))
    assert len(list(list_artifacts(store))) == len(manifests)
