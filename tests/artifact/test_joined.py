"""A backup in Swift is one object in the listing of its container, and leaves nothing behind. On a real Swift."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import zstandard

from strongroom.artifact import (
    Location,
    Manifest,
    Parent,
    Positions,
    Writer,
    artifact_url,
    delete_artifact,
    list_artifacts,
    load_chain,
    open_artifact,
    read_manifest,
    sweep_orphans,
)
from strongroom.errors import StorageError
from strongroom.sections import Artifact
from strongroom.storage import Stat, open_store
from strongroom.storage._swift import SwiftStore
from support.artifacts import FIELDS, SMALL, feed, mb_file, noise, take, write_artifact

GZIP = Artifact(segment_size=64 * 1024, threads=2, codec="gzip")


@pytest.fixture
def store(swift: Any, place: Path) -> Iterator[SwiftStore]:
    """An account of the test's own."""
    store = open_store(swift.storage(f"AUTH_{place.name}"))
    assert isinstance(store, SwiftStore)
    yield store
    store.close()


@pytest.fixture
def client(swift: Any, store: SwiftStore) -> Iterator[httpx.Client]:
    """The same account without our code."""
    with swift.in_account(store.url("").rpartition("/")[2]) as client:
        yield client


def names(client: httpx.Client, container: str) -> list[str]:
    reply = client.get(f"/{container}")
    assert reply.status_code in (200, 204, 404)
    return reply.text.split() if reply.status_code == 200 else []


def test_backup_is_one_object_that_streams_it(store: SwiftStore, client: httpx.Client, here: Location) -> None:
    data = noise(300_000)
    manifest = write_artifact(store, here, data)
    assert names(client, "box") == ["one.bin.zst"]
    assert names(client, "box_segments") == sorted(["one/manifest.json", *(f"one/{n:08d}" for n in range(5))])
    assert artifact_url(store, manifest) == store.url("box/one.bin.zst")
    reply = httpx.get(artifact_url(store, manifest), headers=client.headers)
    assert len(reply.content) == manifest.stored_size
    with zstandard.ZstdDecompressor().stream_reader(reply.content, read_across_frames=True) as reader:
        assert reader.read() == data
    assert take(open_artifact(store, here)) == data
    assert list(list_artifacts(store)) == [manifest]


def test_gzip_has_the_form_that_trove_restores(store: SwiftStore, client: httpx.Client, here: Location) -> None:
    files = [piece for name in ("a", "b/c") for piece in mb_file(name, noise(90_000))]
    full = write_artifact(store, here, files, GZIP, stream="mbstream")
    head = client.head("/box/one.xbstream.gz")
    trove = {key.removeprefix("x-object-meta-"): value for key, value in head.headers.items() if key.startswith("x-object-meta-")}
    assert trove == {"datastore": "mariadb", "datastore-version": "10.11.19", "lsn": "100"}
    reply = client.get("/box/one.xbstream.gz")
    assert gzip.decompress(reply.content) == b"".join(files)
    etags = [client.head(f"/box_segments/{here.id}/{n:08d}").headers["etag"] for n in range(len(full.segments))]
    etag = hashlib.md5("".join(etags).encode()).hexdigest()
    assert head.headers["etag"] == f'"{etag}"'

    child = Location(container="box", id="two")
    _, sha256 = read_manifest(store, here)
    parent: dict[str, Any] = {"kind": "incremental", "parent": Parent(location=here, manifest_sha256=sha256), "chain": "one"}
    positions = Positions(from_lsn=100, to_lsn=200)
    write_artifact(store, child, files, GZIP, stream="mbstream", positions=positions, **parent)
    told = client.head("/box/two.xbstream.gz").headers
    assert told["x-object-meta-lsn"] == "200"
    assert told["x-object-meta-parent-location"] == store.url("box/one.xbstream.gz")
    assert told["x-object-meta-parent-checksum"] == etag
    assert [m.id for m in load_chain(store, child)] == ["one", "two"]


def test_encryption_is_visible_in_the_name(store: SwiftStore, client: httpx.Client, here: Location) -> None:
    from strongroom.artifact import new_identity

    _, recipient = new_identity()
    write_artifact(store, here, noise(100), recipients=[recipient])
    assert names(client, "box") == ["one.bin.zst.age"]
    delete_artifact(store, here)
    assert names(client, "box") == []


@pytest.mark.parametrize("most", [4, 2])
def test_very_many_segments_are_joined_in_several_levels(
    store: SwiftStore, client: httpx.Client, here: Location, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(SwiftStore, "max_joined_objects", most)
    data = noise(9 * 64 * 1024)
    manifest = write_artifact(store, here, data, GZIP)
    assert len(manifest.segments) == 9
    assert names(client, "box") == ["one.bin.gz"]
    assert sum("joined-" in name for name in names(client, "box_segments")) == {4: 3, 2: 5 + 3 + 2}[most]
    assert gzip.decompress(client.get("/box/one.bin.gz").content) == data
    stat = store.head("box/one.bin.gz")
    assert (stat.size, stat.md5) == (manifest.stored_size, None)
    assert take(open_artifact(store, here)) == data
    delete_artifact(store, here)
    assert names(client, "box") + names(client, "box_segments") == []


def test_more_segments_than_swift_joins_at_once(store: SwiftStore, client: httpx.Client, here: Location) -> None:
    part = store.put("box/one/00000000", b"x")
    parts = [Stat(key=part.key, size=1, modified=part.modified, etag=part.etag)] * (store.max_joined_objects + 1)
    with pytest.raises(StorageError, match=r"box/one\.tar"):
        store.join("box/one.tar", parts, {})
    store.join("box/one.tar", parts[:-1], {})
    assert store.head("box/one.tar").size == store.max_joined_objects


def test_missing_segments_are_not_joined(store: SwiftStore, client: httpx.Client) -> None:
    part = store.put("box/one/00000000", b"hello")
    for wrong in (
        Stat(key="box/one/00000001", size=5, modified=part.modified, etag=part.etag),
        Stat(key=part.key, size=5, modified=part.modified, etag="0" * 32),
        Stat(key=part.key, size=4, modified=part.modified, etag=part.etag),
    ):
        with pytest.raises(StorageError, match=r"Swift failed at box/one\.tar .*400 Bad Request"):
            store.join("box/one.tar", [wrong], {})
    assert names(client, "box") == []


@pytest.mark.parametrize("finished", [True, False])
def test_deletion_leaves_nothing(store: SwiftStore, client: httpx.Client, here: Location, finished: bool) -> None:
    if finished:
        write_artifact(store, here, noise(300_000))
    else:
        with pytest.raises(KeyError), Writer(store, here, SMALL, stream="plain") as writer:
            feed(noise(300_000), writer.copy_from)
            raise KeyError("the tool failed")
    delete_artifact(store, here)
    assert names(client, "box") + names(client, "box_segments") == []


def test_delayed_listing_hides_no_segment_from_deletion(
    store: SwiftStore, client: httpx.Client, here: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Location(container="box", id="two")
    write_artifact(store, here, mb_file("a", noise(300_000)), stream="mbstream")
    monkeypatch.setattr(SwiftStore, "list", lambda store, prefix: iter(()))
    delete_artifact(store, here)
    with pytest.raises(KeyError), Writer(store, other, SMALL, stream="plain") as writer:
        feed(noise(300_000), writer.copy_from)
        raise KeyError("the tool failed")
    assert names(client, "box") + names(client, "box_segments") == []


def test_remains_of_a_writer_that_died_before_its_manifest_are_swept(
    store: SwiftStore, client: httpx.Client, here: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Died in the moment between the joined object and the manifest."""
    kept = write_artifact(store, Location(container="box", id="kept"), noise(100), owner="me")
    real = SwiftStore.put

    def put(self: SwiftStore, key: str, data: bytes, *, create: bool = False) -> Stat:
        if key.endswith("manifest.json"):
            raise KeyboardInterrupt
        return real(self, key, data, create=create)

    writer = Writer(store, here, SMALL, stream="plain", owner="me")
    writer.open()
    feed(noise(300_000), writer.copy_from)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(SwiftStore, "put", put)
        writer.finish(**{**FIELDS, "chain": here.id})
    assert names(client, "box") == ["kept.bin.zst", "one.bin.zst"]
    assert sweep_orphans(store, "me", lambda _: False, timedelta(hours=1)) == []
    assert sweep_orphans(store, "me", lambda _: False, timedelta(0)) == [here]
    assert names(client, "box") == ["kept.bin.zst"]
    assert list(list_artifacts(store)) == [kept]
    assert all(name.startswith("kept/") for name in names(client, "box_segments"))


def test_parent_whose_object_was_removed_by_hand_is_still_named(store: SwiftStore, client: httpx.Client, here: Location) -> None:
    write_artifact(store, here, noise(100))
    client.delete("/box/one.bin.zst").raise_for_status()
    _, sha256 = read_manifest(store, here)
    child = write_artifact(
        store,
        Location(container="box", id="two"),
        noise(100),
        kind="incremental",
        parent=Parent(location=here, manifest_sha256=sha256),
        chain="one",
        positions=Positions(from_lsn=100, to_lsn=200),
    )
    assert isinstance(child, Manifest)
    told = client.head("/box/two.bin.zst").headers
    assert told["x-object-meta-parent-location"] == store.url("box/one.bin.zst")
    assert "x-object-meta-parent-checksum" not in told
    assert store.head("box/two.bin.zst").modified <= datetime.now(UTC) + timedelta(seconds=2)
