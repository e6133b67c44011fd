"""A bucket that others write to: never a wrong restore, never a deletion of anything else, a clear error, bounded memory."""

from __future__ import annotations

import hashlib
import json
import os
import resource
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard

from strongroom.artifact import (
    Location,
    Problem,
    Verification,
    compare_sizes,
    delete_artifact,
    keep_verification,
    list_artifacts,
    load_chain,
    load_verification,
    open_artifact,
    read_manifest,
    require_container,
    sweep_orphans,
    verify,
)
from strongroom.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, ManifestInvalid, StorageError
from support.artifacts import mb_file, noise, take, write_artifact
from support.raw import Raw, open_raw, raw

__all__ = ["raw"]

DATA = mb_file("db/t.ibd", noise(300_000))
HERE, OTHER = Location(container="box", id="one"), Location(container="box", id="two")
MEMORY = 500 * 1024
"""KiB that a hostile object may make us take, with what the test itself needs to make it. Believed, it would take gigabytes."""


@pytest.fixture
def written(raw: Raw) -> Raw:
    write_artifact(raw.store, HERE, DATA, stream="mbstream")
    write_artifact(raw.store, OTHER, mb_file("db/t.ibd", noise(300_000, 1)), stream="mbstream")
    return raw


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def lie(written: Raw, change: Callable[[dict[str, Any]], Any], location: Location = HERE) -> None:
    manifest = json.loads(written.read(location.manifest))
    change(manifest)
    written.write(location.manifest, json.dumps(manifest).encode())


SEGMENTS: dict[str, Callable[[Raw], bytes]] = {
    "empty": lambda written: b"",
    "cut": lambda written: written.read(HERE.segment(1))[:-1],
    "longer": lambda written: written.read(HERE.segment(1)) + b"\0",
    "swapped": lambda written: written.read(HERE.segment(2)),
    "of another backup": lambda written: written.read(OTHER.segment(1)),
    "forged": lambda written: zstandard.compress(b"x" * 65_536),
    "a bomb": lambda written: zstandard.compress(bytes(500_000_000)),
}


def test_no_segment_is_mistaken_for_another(written: Raw) -> None:
    whole = b"".join(DATA)
    good = written.read(HERE.segment(1))
    before = peak()
    for what, make in SEGMENTS.items():
        written.write(HERE.segment(1), make(written))
        reader = open_artifact(written.store, HERE)
        got: list[bytes] = []
        with pytest.raises(ArtifactError, match="segment 1"):
            got.extend(bytes(chunk) for chunk in reader.chunks())
        assert whole.startswith(b"".join(got)), what
        assert "segment 1" in str(verify(reader).problems[0]), what
    assert peak() - before < MEMORY
    written.write(HERE.segment(1), good)
    assert take(open_artifact(written.store, HERE)) == whole


MANIFESTS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "empty": lambda mine, other: b"",
    "cut": lambda mine, other: mine[:-5],
    "of another backup": lambda mine, other: other,
    "a bomb of lists": lambda mine, other: b'{"x":[' + b"[]," * 20_000_000 + b"1]}",
    "a bomb of segments": lambda mine, other: b'{"segments":[' + b"{}," * 490_000 + b"{}]}",
    "a bomb of facts": lambda mine, other: (
        b'{"profile":{"facts":{' + b",".join(b'"%d":{"a":1}' % n for n in range(400_000)) + b"}}}"
    ),
    "above all limits": lambda mine, other: b" " * (65 * 1024**2),
}


def test_no_manifest_is_trusted(written: Raw) -> None:
    mine, other = written.read(HERE.manifest), written.read(OTHER.manifest)
    before = peak()
    for what, make in MANIFESTS.items():
        if written.kind != "directory" and ("bomb" in what or "above" in what):
            continue  # what is parsed is the same for all drivers
        written.write(HERE.manifest, make(mine, other))
        with pytest.raises(ManifestInvalid, match=r"box/one/manifest\.json is not valid") as caught:
            open_artifact(written.store, HERE)
        assert len(str(caught.value)) < 600, what
        found = {item.id: item for item in list_artifacts(written.store)}
        assert isinstance(found["one"], Problem) and not isinstance(found["two"], Problem), what
    assert peak() - before < MEMORY


def test_replaced_artifact_is_refused_by_its_hash(written: Raw) -> None:
    """Segments, index and manifest of another backup, with the ids made to fit: all in itself is right."""
    _, known = read_manifest(written.store, HERE)
    for key in list(written.names()):
        if key.startswith(f"{OTHER.prefix}/"):
            written.write(key.replace("/two/", "/one/"), written.read(key))
    lie(written, lambda manifest: manifest.update(id="one", chain="one"))
    with pytest.raises(ManifestInvalid, match="is not the one that was written"):
        load_chain(written.store, HERE, known)


INDEXES: dict[str, Callable[[], bytes]] = {
    "blanks": lambda: b" " * 200_000_000,
    "files": lambda: b"{" + b",\n".join(b'"%d":[[0,1]]' % n for n in range(2_000_000)) + b"}",
    "ranges": lambda: b'{"a":[' + b"[0,1]," * 20_000_000 + b"[0,1]]}",
    "one long range": lambda: b'{"db/t.ibd":[[0,99999999999999]]}',
    "not an index": lambda: b"[[[[1]]]]",
}


@pytest.mark.parametrize("what", INDEXES)
def test_index_decompresses_to_no_more_than_its_stream_allows(place: Path, what: str) -> None:
    written = open_raw("directory", place, lambda _: None)
    write_artifact(written.store, HERE, DATA, stream="mbstream")
    content = INDEXES[what]()
    data = zstandard.compress(content)
    del content
    written.write(HERE.index, data)
    lie(written, lambda manifest: manifest.update(index={"stored": len(data), "sha256": hashlib.sha256(data).hexdigest()}))
    before = peak()
    reader = open_artifact(written.store, HERE)
    with pytest.raises(ArtifactCorrupt, match="index"):
        list(reader.extract(["db/t.ibd"]))
    assert peak() - before < MEMORY
    assert "index" in str(verify(reader).problems[0])


STRANGERS = ("note.txt", "00000000.bak", "000000000", "0000001", "100-00000000", "verifications/x.json", "verifications/0.json")
STRANGERS += ("deep/00000000", "joined-0-1", "intent.json.old", "-1", "manifest.json~")


def test_deletion_removes_only_the_artifact(written: Raw) -> None:
    """Names beside and around it that only look as if they belonged to it, and a manifest that claims more."""
    write_artifact(written.store, Location(container="box", id="one-more"), DATA, stream="mbstream")
    keep_verification(written.store, result(written, HERE))
    others = {f"{HERE.prefix}/{name}" for name in STRANGERS} | {"box/onepiece", "box/one.tar"}
    for key in others:
        written.write(key, b"of somebody else")
    for key in (HERE.segment(77), HERE.segment(3, 2), HERE.index_of(1), HERE.intent_of(1)):
        written.write(key, b"left by a dead attempt")

    def claim(manifest: dict[str, Any]) -> None:
        manifest["segments"] *= 20
        manifest["raw_size"], manifest["stored_size"] = manifest["raw_size"] * 20, manifest["stored_size"] * 20
        manifest["segments"][0]["key"] = OTHER.segment(0)

    lie(written, claim)
    before = written.names()
    delete_artifact(written.store, HERE)
    gone = before - written.names()
    assert others <= written.names()
    assert {key for key in before if key.startswith(f"{HERE.prefix}/")} - gone == others - {"box/onepiece", "box/one.tar"}
    assert {key for key in gone if not key.startswith(f"{HERE.prefix}/")} <= {"box/one.xbstream.zst"}
    assert take(open_artifact(written.store, OTHER))
    found = {item.id: item for item in list_artifacts(written.store)}
    assert not isinstance(found["one-more"], Problem)
    require_container(written.store, HERE)
    with pytest.raises(StorageError, match="shows nothing in container boxes"):
        require_container(written.store, Location(container="boxes", id="one"))


ODD = ("box/one//00000000", "box/one/../two/00000000", "box/one/a\nb", "box/one/.hidden", "box/one/ü/00000001")


def test_names_that_no_driver_creates_do_no_harm(written: Raw) -> None:
    """They cannot be keys of ours. A deletion, a sweep and a list of all artifacts go past them."""
    odd = [key for key in ODD if not (written.kind == "directory" and ("//" in key or ".." in key))]
    odd += [] if written.kind == "swift" else ["b$x/one/00000000"]
    for key in odd:
        written.write(key, b"odd")
    assert {item.id for item in list_artifacts(written.store) if not isinstance(item, Problem)} == {"one", "two"}
    skipped: list[str] = []
    never = (lambda _: False, timedelta(0))
    assert sweep_orphans(written.store, "us", *never, report=lambda at, error: skipped.append(f"{at.id}: {error}")) == []
    delete_artifact(written.store, HERE)
    left = {key for key in written.names() if key.startswith(f"{HERE.prefix}/")}
    assert left == {key for key in odd if key.startswith(f"{HERE.prefix}/")}
    assert all(written.read(key) == b"odd" for key in odd)
    assert take(open_artifact(written.store, OTHER))


def test_intent_never_causes_the_deletion_of_a_backup(written: Raw) -> None:
    forged = {"id": "one", "owner": "us", "host": "h", "pid": 1, "started": "2020-01-01T00:00:00Z"}
    written.write(HERE.intent, json.dumps(forged).encode())
    written.write("box/three/intent.json", json.dumps(forged).encode())
    written.write("box/three/00000000", b"of somebody else")
    assert sweep_orphans(written.store, "us", lambda _: False, timedelta(0)) == []
    assert take(open_artifact(written.store, HERE)) == b"".join(DATA)
    assert "box/three/00000000" in written.names()


def result(written: Raw, at: Location, *, ok: bool = True, **more: Any) -> Verification:
    values = {"job": "a", "at": datetime.now(UTC), "level": "content", "manifest_sha256": read_manifest(written.store, at)[1]}
    return Verification(id=at.id, container=at.container, ok=ok, **{**values, **more})


def test_results_of_verifications_are_those_of_this_artifact(written: Raw) -> None:
    _, sha256 = read_manifest(written.store, HERE)
    keep_verification(written.store, result(written, HERE, ok=False))
    replayed = result(written, OTHER, level="tables").model_dump_json().encode()
    for number, data in enumerate([replayed, b"", b"{", b'{"ok":true,"x":' + b"[" * 100_000], 1):
        written.write(f"{HERE.verifications}/{number:08d}.json", data)
    written.write(f"{HERE.verifications}/99999999.json", replayed)
    found = load_verification(written.store, HERE, sha256)
    assert found is not None
    assert not found.ok
    keep_verification(written.store, result(written, HERE, job="b"))
    found = load_verification(written.store, HERE, sha256)
    assert found is not None
    assert (found.ok, found.job) == (True, "b")
    delete_artifact(written.store, HERE)
    assert not [key for key in written.names() if "/one/verifications/0000000" in key]


@pytest.mark.parametrize("what", ["link", "pipe", "folder"])
def test_a_directory_store_reads_files_only(place: Path, what: str) -> None:
    written = open_raw("directory", place, lambda _: None)
    write_artifact(written.store, HERE, DATA, stream="mbstream")
    segment = place / "store" / HERE.segment(1)
    secret = place / "secret"
    secret.write_bytes(segment.read_bytes())
    segment.unlink()
    if what == "link":
        segment.symlink_to(secret)
    elif what == "pipe":
        os.mkfifo(segment)
    else:
        segment.mkdir()
    with pytest.raises((ArtifactError, StorageError), match="00000001"):
        take(open_artifact(written.store, HERE))
    delete_artifact(written.store, HERE)
    assert secret.exists()


def test_objects_that_swift_will_delete_are_reported(place: Path, swift: Any, request: pytest.FixtureRequest) -> None:
    written = open_raw("swift", place, request.getfixturevalue)
    manifest = write_artifact(written.store, HERE, DATA, stream="mbstream", name="monday")
    assert compare_sizes(written.store, manifest).warnings == ()
    when = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    written.write(HERE.segment(2), written.read(HERE.segment(2)), **{"X-Delete-At": str(int(when.timestamp()))})
    assert written.store.head(HERE.segment(2)).expires == when
    report = compare_sizes(written.store, manifest)
    assert report.ok
    assert f"at {when:%Y-%m-%d %H:%M:%S} UTC (X-Delete-At)" in report.warnings[0]
    written.delete(HERE.segment(1))
    written.write(HERE.segment(3), b"x")
    kinds = [type(problem) for problem in compare_sizes(written.store, manifest).problems]
    assert kinds == [ArtifactMissing, ArtifactCorrupt]
