"""Backups of other programs: found by what people call them, described by hostile metadata, read in bounded memory."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strongroom.artifact import ForeignBackup, ForeignReader, Place, check_format, check_link, find_foreign, locate
from strongroom.artifact.streams.gunzip import gunzip
from strongroom.artifact.streams.mbstream import Mbstream
from strongroom.errors import ArtifactCorrupt, ArtifactMissing, InvalidRequest, StorageError
from strongroom.storage import Store, open_store
from support.artifacts import mb_end, mb_file, mb_payload, noise, take

ID = "4f1c0a52-6f3e-4c1a-9d0c-2f5a1f3f7a11"
STREAM = b"".join([*mb_file("ibdata1", noise(300_000)), *mb_file("xtrabackup_checkpoints", b"to_lsn = 100\n")])


def put(top: Path, key: str, data: bytes, **metadata: str) -> str:
    path = top / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if metadata:
        named = {name.replace("_", "-"): value for name, value in metadata.items()}
        path.with_name(f"{path.name}.meta.json").write_text(json.dumps(named))
    return key


def find(store: Store, key: str, directory: Path | None = None) -> list[ForeignBackup]:
    return find_foreign(store, Place(key=key, directory=directory), datastore="mariadb", datastore_version="10.11").backups


# --- names


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"box/{ID}.xbstream.gz", f"box/{ID}.xbstream.gz"),
        ("kolla/full-1/a.mbs.gz", "kolla/full-1/a.mbs.gz"),
        (f"file:///mnt/of/another/region/box/{ID}.xbstream.gz", f"box/{ID}.xbstream.gz"),
        (f"file:///x/b%6Fx/{ID}", f"box/{ID}"),
    ],
)
def test_only_container_and_object_of_a_location_count(store: Store, text: str, key: str) -> None:
    assert locate(store, text) == Place(key=key)


def test_location_below_the_store_is_complete(store: Store, top: Path) -> None:
    assert locate(store, store.url("kolla/full-1/a.mbs.gz")) == Place(key="kolla/full-1/a.mbs.gz")
    assert locate(store, f"{top}/kolla/full-1/a.mbs.gz", paths=True) == Place(key="kolla/full-1/a.mbs.gz")


def test_a_path_of_the_host(store: Store) -> None:
    place = Place(directory=Path("/backup/full-1"), key="a b's.mbs.gz")
    assert locate(store, "/backup/full-1/a b's.mbs.gz", paths=True) == place
    assert locate(store, "file:///backup/full-1/a%20b's.mbs.gz", paths=True) == place


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "/", "file:///", "box/", "/box", "box//x.gz", "box/../x.gz", "box/.hidden.gz", "box/a\nb.gz", "file:///a/..",
        "http://h/v1/AUTH_x/c/o.xbstream.gz", "s3://b/c/o.xbstream.gz", "http://[", "file:///x/%2e%2e", "file:///a/b%2f..%2fc/..",
        "ftp://h/c/o", "box/\0", "://", "file:box",
    ],
)  # fmt: skip
def test_invalid_locations_are_refused_with_a_message(store: Store, text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        locate(store, text)
    assert "location" in refused.value.message


@pytest.mark.parametrize("text", ["/a/../b.gz", "file:///a/%2e%2e/b.gz", "/a/b\0.gz"])
def test_a_path_that_leads_upwards_is_refused(store: Store, text: str) -> None:
    with pytest.raises(InvalidRequest):
        locate(store, text, paths=True)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        (f"{ID}.xbstream.gz.enc", "encrypted"),
        (f"{ID}.tar.gz", "PostgreSQL"),
        (f"{ID}.xbstream.zst", "does not have the name"),
        ("manifest.json", "does not have the name"),
    ],
)
def test_unrestorable_files_are_refused_by_name(store: Store, top: Path, name: str, word: str) -> None:
    put(top, f"box/{name}", gzip.compress(STREAM))
    for attempt in (lambda: check_format(name, "mariadb"), lambda: find(store, f"box/{name}")):
        with pytest.raises(InvalidRequest) as refused:
            attempt()
        assert word in refused.value.message
        assert refused.value.remedy


# --- descriptions


def test_a_chain_by_metadata(store: Store, top: Path) -> None:
    one, two = gzip.compress(STREAM), gzip.compress(STREAM * 1, mtime=1)
    put(top, "box/one.xbstream.gz", one, datastore="mariadb", datastore_version="10.11.6", lsn="100")
    checksum = hashlib.md5(one).hexdigest()
    put(
        top, "box/two.xbstream.gz", two,
        lsn="200", parent_location="http://h:8080/v1/AUTH_p/box/one.xbstream.gz", parent_checksum=f'"{checksum}"',
    )  # fmt: skip
    full, child = find(store, "box/two.xbstream.gz")
    assert (full.kind, full.positions.to_lsn, full.server_version, full.stored_size) == ("full", 100, "10.11.6", len(one))
    assert (child.kind, child.positions.to_lsn, child.id) == ("incremental", 200, "two.xbstream.gz")
    # On the host it is looked for beside the child, whatever the container was called.
    assert [b.directory for b in find(store, "two.xbstream.gz", top / "box")] == [top / "box"] * 2


def test_replaced_parent_is_refused(store: Store, top: Path) -> None:
    put(top, "box/one.xbstream.gz", b"x", etag="a" * 32)
    put(top, "box/two.xbstream.gz", b"x", parent_location="c/box/one.xbstream.gz", parent_checksum="b" * 32)
    with pytest.raises(ArtifactCorrupt, match="with checksum"):
        find(store, "box/two.xbstream.gz")


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"datastore": "mysql"}, InvalidRequest),
        ({"datastore-version": "10.4"}, InvalidRequest),
        ({"datastore-version": "10.110"}, InvalidRequest),
        ({"parent-location": "box/one.xbstream.gz"}, ArtifactCorrupt),
        ({"parent-location": "box/../../etc/passwd"}, InvalidRequest),
        ({"parent-location": "box/%2e%2e/one.xbstream.gz"}, InvalidRequest),
        ({"parent-location": "x/" + "y" * 300 + ".xbstream.gz"}, StorageError),
        ({"parent-location": "box/gone.xbstream.gz"}, ArtifactMissing),
        ({"parent-location": "box/base.tar.gz"}, InvalidRequest),
        ({"lsn": 5}, StorageError),
        (["lsn"], StorageError),
        ("{", StorageError),
        ({"x": "y" * 70_000}, StorageError),
    ],
)
def test_wrong_metadata(store: Store, top: Path, metadata: Any, error: type[Exception]) -> None:
    put(top, "box/one.xbstream.gz", gzip.compress(STREAM))
    text = metadata if isinstance(metadata, str) else json.dumps(metadata)
    (top / "box/one.xbstream.gz.meta.json").write_text(text)
    with pytest.raises(error):
        find(store, "box/one.xbstream.gz")


def test_lsn_that_is_not_a_number_is_unknown(store: Store, top: Path) -> None:
    put(top, "box/one.xbstream.gz", b"", lsn="-1")
    assert find(store, "box/one.xbstream.gz")[0].positions.to_lsn is None


def test_segments_without_their_object(store: Store, top: Path) -> None:
    data = gzip.compress(STREAM)
    for number in range(3):
        put(top, f"box/{ID}_{number:08d}", data[number * 50_000 : (number + 1) * 50_000 if number < 2 else None])
    put(top, f"box/{ID}.xbstream.gz", b"", lsn="7")
    (top / f"box/{ID}.xbstream.gz").unlink()
    for name in (f"{ID}.xbstream.gz", f"{ID}_00000000"):
        (backup,) = find(store, f"box/{name}")
        assert (len(backup.pieces), backup.positions.to_lsn, backup.stored_size) == (3, 7, len(data))
        contents = ForeignReader(store, backup).read()
        assert (contents.raw_size, len(contents.files)) == (len(STREAM), 2)
        hexes = "".join(hashlib.md5((top / piece.key).read_bytes()).hexdigest() for piece in backup.pieces)
        found = backup.model_copy(update={"pieces": contents.pieces})
        assert found.checksum == hashlib.md5(hexes.encode()).hexdigest()  # as Swift computes it for a large object


def test_a_parent_must_end_where_the_child_begins(store: Store, top: Path) -> None:
    put(top, "box/one.xbstream.gz", b"")
    (base,) = find(store, "box/one.xbstream.gz")

    def link(kind: str, from_lsn: int | None, to_lsn: int | None) -> ForeignBackup:
        positions = base.positions.model_copy(update={"from_lsn": from_lsn, "to_lsn": to_lsn})
        return base.model_copy(update={"kind": kind, "positions": positions})

    check_link(link("full", 0, 100), link("incremental", 100, 200))
    check_link(link("full", 0, None), link("incremental", 100, 200))
    for parent, child in (
        (link("full", 0, 100), link("incremental", 99, 200)),
        (link("full", 0, 100), link("full", 0, 200)),
        (link("full", 0, 0), link("incremental", 100, 200)),
    ):
        with pytest.raises(ArtifactCorrupt):
            check_link(parent, child)


@pytest.fixture
def swift_store(swift: Any, place: Path) -> Iterator[Store]:
    store = open_store(swift.storage(f"AUTH_{place.name}"))
    yield store
    store.close()


def test_objects_of_trove_in_swift(swift: Any, swift_store: Store) -> None:
    """One object with metadata; on it a large one of several segments in the same container, as Trove makes it."""
    account = swift_store.url("").rpartition("/")[2]
    data = gzip.compress(STREAM)
    with swift.in_account(account) as client:
        client.put("/box").raise_for_status()
        headers = {"X-Object-Meta-Datastore": "mariadb", "X-Object-Meta-Datastore-Version": "10.11", "X-Object-Meta-Lsn": "100"}
        etag = client.put("/box/one.xbstream.gz", content=data, headers=headers).raise_for_status().headers["etag"]
        listing = []
        for number in range(3):
            part = data[number * 60_000 : (number + 1) * 60_000 if number < 2 else None]
            client.put(f"/box/two_{number:08d}", content=part).raise_for_status()
            listing.append({"path": f"box/two_{number:08d}", "etag": hashlib.md5(part).hexdigest(), "size_bytes": len(part)})
        location = f"{swift_store.url('')}/box/one.xbstream.gz"
        headers = {"X-Object-Meta-Parent-Location": location, "X-Object-Meta-Parent-Checksum": etag.strip('"')}
        put = client.put("/box/two.xbstream.gz?multipart-manifest=put", content=json.dumps(listing), headers=headers)
        put.raise_for_status()
    place = locate(swift_store, "http://192.168.206.8:8080/v1/AUTH_of_another_region/box/two.xbstream.gz")
    chain = find_foreign(swift_store, place, datastore="mariadb", datastore_version="10.11").backups
    assert [(b.kind, b.positions.to_lsn, b.stored_size) for b in chain] == [
        ("full", 100, len(data)),
        ("incremental", None, len(data)),
    ]
    for backup in chain:
        reader = ForeignReader(swift_store, backup)
        reader.check()
        assert take(reader) == STREAM
    with swift.in_account(account) as client:
        client.put("/box/two.xbstream.gz", content=data[:-8] + bytes(8)).raise_for_status()
    with pytest.raises(ArtifactCorrupt, match="was replaced"):
        ForeignReader(swift_store, chain[1]).check()


# --- reading


@pytest.fixture
def backup(store: Store, top: Path) -> ForeignBackup:
    (found,) = find(store, put(top, "box/one.xbstream.gz", gzip.compress(STREAM)))
    return found.model_copy(update={"pieces": ForeignReader(store, found).read().pieces})


def test_stream_is_read_and_requested_files_are_kept(store: Store, backup: ForeignBackup) -> None:
    seen: list[tuple[int, int]] = []
    reader = ForeignReader(store, backup, keep={"xtrabackup_checkpoints"}, on_progress=lambda *at: seen.append(at))
    reader.check()
    assert take(reader) == STREAM
    assert seen[-1] == (len(STREAM), backup.stored_size)
    assert reader.read().kept == {"xtrabackup_checkpoints": b"to_lsn = 100\n"}
    assert backup.pieces[0].sha256 == hashlib.sha256(store.get("box/one.xbstream.gz")).hexdigest()


def test_unpacked_files_are_read_unchanged(store: Store, top: Path) -> None:
    (found,) = find(store, put(top, "box/mysqlbackup-29-08-2025-1756478084.qp.xbc.xbs", STREAM))
    assert take(ForeignReader(store, found)) == STREAM
    (named_wrongly,) = find(store, put(top, "box/two.xbs", gzip.compress(STREAM)))
    with pytest.raises(ArtifactCorrupt, match="not a whole mbstream"):
        ForeignReader(store, named_wrongly).read()


def test_any_change_is_detected(store: Store, top: Path, backup: ForeignBackup) -> None:
    path = top / "box/one.xbstream.gz"
    good = path.read_bytes()
    for bad in (
        good[: len(good) // 2],
        good[:-1],
        b"",
        good[:1000] + bytes([good[1000] ^ 1]) + good[1001:],
        bytes(len(good)),
        gzip.compress(STREAM[:-20]),
        gzip.compress(b"x" * len(STREAM)),
    ):
        path.write_bytes(bad)
        (unread,) = find(store, "box/one.xbstream.gz")
        for known in (backup, unread):
            with pytest.raises(ArtifactCorrupt):
                ForeignReader(store, known).read()
    path.write_bytes(gzip.compress(STREAM, mtime=5))  # a good one, but not this one
    with pytest.raises(ArtifactCorrupt, match="SHA256"):
        ForeignReader(store, backup.model_copy(update={"pieces": [backup.pieces[0].model_copy(update={"md5": None})]})).read()
    path.unlink()
    for method in ("check", "read"):
        with pytest.raises(ArtifactMissing):
            getattr(ForeignReader(store, backup), method)()


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", "a/../../b"])
def test_names_that_lead_outside_never_reach_the_program(store: Store, top: Path, name: str) -> None:
    stream = b"".join([*mb_file("ibdata1", b"x"), mb_payload(name, b"evil"), mb_end(name)])
    (found,) = find(store, put(top, "box/evil.xbstream.gz", gzip.compress(stream)))
    out: list[bytes] = []
    with pytest.raises(ArtifactCorrupt, match="leads outside"):
        out.extend(ForeignReader(store, found).chunks())
    assert out == []


def test_all_threads_end_when_reading_stops(store: Store, top: Path) -> None:
    big = b"".join(mb_file("ibdata1", os.urandom(20_000_000), 1_000_000))
    (found,) = find(store, put(top, "box/big.xbstream.gz", zlib.compress(big, 0, 31)))
    chunks = ForeignReader(store, found).chunks()
    assert next(chunks)
    chunks.close()
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith("fetch") and thread.is_alive() and not _idle(thread)
    ]


def _idle(thread: threading.Thread) -> bool:
    thread.join(10)
    return not thread.is_alive()


def test_gzip_members_with_padding_and_any_split() -> None:
    parts = [noise(100_000, 1), b"", noise(70_000, 2)]
    data = b"".join(gzip.compress(part) for part in parts) + bytes(700)
    for step in (1_000_000, 4096, 511):
        assert b"".join(gunzip(data[at : at + step] for at in range(0, len(data), step))) == b"".join(parts)
    assert b"".join(gunzip([gzip.compress(b"")])) == b""
    for bad in (b"", bytes(20), data[:50_000], data[:-700] + b"rubbish", b"\x1f", gzip.compress(b"x")[:-1]):
        with pytest.raises(ArtifactCorrupt):
            list(gunzip([bad]))


def test_decompression_bomb_is_read_in_small_pieces() -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    sizes = [len(piece) for piece in gunzip([bomb])]
    assert sum(sizes) == 64 << 20
    assert max(sizes) <= 4 << 20


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_small_file_is_kept_however_the_stream_is_split(step: int) -> None:
    stream = b"".join([*mb_file("a", noise(5000)), *mb_file("info", noise(1000), 300), *mb_file("b", noise(100))])
    stream += b"".join(mb_file("checkpoints", noise(200_000)))
    walk = Mbstream({"info", "checkpoints", "missing"})
    for at in range(0, len(stream), step):
        walk.feed(stream[at : at + step])
    walk.finish()
    assert walk.kept == {"info": noise(1000), "checkpoints": noise(200_000)[: 64 * 1024]}
