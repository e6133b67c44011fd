"""What is stored may be cut, flipped, swapped, lost or lied about: it is noticed, named, and never written out."""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from strongroom.artifact import Location, load_manifest, new_identity, open_artifact, verify
from strongroom.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, CannotDecrypt, ManifestInvalid
from strongroom.storage import Store
from support.artifacts import SMALL, mb_file, noise, take, write_artifact

DATA = noise(400_000)
IDENTITY, RECIPIENT = new_identity()
OTHER, _ = new_identity()


@pytest.fixture
def folder(store: Store, top: Path, here: Location) -> Path:
    write_artifact(store, here, DATA)
    return top / "box" / "one"


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def swap(file: Path) -> None:
    other = file.with_name("00000004")
    mine, theirs = file.read_bytes(), other.read_bytes()
    file.write_bytes(theirs)
    other.write_bytes(mine)


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "empty": lambda file: file.write_bytes(b""),
    "longer": lambda file: file.write_bytes(file.read_bytes() + b"\0"),
    "flipped": flip,
    "swapped": swap,
    "missing": Path.unlink,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_segment(store: Store, here: Location, folder: Path, damage: str) -> None:
    DAMAGE[damage](folder / "00000002")
    reader = open_artifact(store, here)
    kind = ArtifactMissing if damage == "missing" else ArtifactCorrupt
    got: list[bytes] = []
    with pytest.raises(kind, match=r"segment 2 \(file:///.*00000002\) is"):
        got.extend(reader.chunks())
    assert b"".join(got) == DATA[: 2 * 65_536]
    report = verify(reader)
    assert not report.ok
    assert [type(problem) for problem in report.problems] == [kind] * (2 if damage == "swapped" else 1)
    assert "segment 2" in str(report.problems[0])
    assert report.problems[0].remedy


def test_damage_with_an_adjusted_hash(store: Store, here: Location, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    segment = folder / "00000001"
    for frame in (
        zstandard.compress(DATA[65_536 : 2 * 65_536 - 1]),
        zstandard.compress(bytes(500_000_000)),
        zstandard.compress(DATA[65_536 : 2 * 65_536])[:-4],
        b"not a frame at all",
        segment.read_bytes() + segment.read_bytes(),
    ):
        segment.write_bytes(frame)
        lie = json.loads(json.dumps(manifest))
        lie["segments"][1].update(stored=len(frame), sha256=hashlib.sha256(frame).hexdigest())
        lie["stored_size"] = sum(s["stored"] for s in lie["segments"])
        (folder / "manifest.json").write_text(json.dumps(lie))
        with pytest.raises(ArtifactCorrupt, match="segment 1"):
            take(open_artifact(store, here))


def no_json(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest)[:-10]


def deep(manifest: dict[str, Any]) -> str:
    return '{"positions":' * 100_000


def change(**fields: Any) -> Callable[[dict[str, Any]], str]:
    return lambda manifest: json.dumps({**manifest, **fields})


def change_segment(**fields: Any) -> Callable[[dict[str, Any]], str]:
    def lie(manifest: dict[str, Any]) -> str:
        manifest["segments"][1].update(fields)
        return json.dumps(manifest)

    return lie


def million(manifest: dict[str, Any]) -> str:
    manifest["segments"] = [{"raw": 65_536, "stored": 65_536, "sha256": "0" * 64}] * 1_000_000
    manifest["raw_size"] = manifest["stored_size"] = 65_536 * 1_000_000
    return json.dumps(manifest)


def impossible(manifest: dict[str, Any]) -> str:
    manifest["segment_size"] = 10**15
    manifest["segments"] = [{"raw": 10**15, "stored": 10**15, "sha256": "0" * 64}]
    manifest["raw_size"] = manifest["stored_size"] = 10**15
    return json.dumps(manifest)


def bomb(manifest: dict[str, Any]) -> str:
    manifest["segments"][1]["stored"] += 10**12
    manifest["stored_size"] += 10**12
    return json.dumps(manifest)


LIES: dict[str, Callable[[dict[str, Any]], str]] = {
    "not JSON": no_json,
    "not an object": lambda manifest: "[1, 2]",
    "not text": lambda manifest: "\x00\x01",
    "empty": lambda manifest: "",
    "deep": deep,
    "a million segments": million,
    "another id": change(id="two"),
    "an id that leads away": change(id="../../etc"),
    "another container": change(container="other"),
    "a container that leads away": change(container="../box"),
    "a parent that leads away": change(
        kind="incremental", chain="x", parent={"location": {"container": "..", "id": "../x"}, "manifest_sha256": "0" * 64}
    ),
    "an incremental without a parent": change(kind="incremental"),
    "a later format": change(format=2),
    "another raw size": change(raw_size=1),
    "another stored size": change(stored_size=1),
    "a negative size": change_segment(raw=-5),
    "no SHA-256": change_segment(sha256="../../etc/passwd"),
    "an unknown codec": change(codec={"name": "rot13", "level": 1}),
    "a segment above segment_size": change(segment_size=65_535),
    "a naive time": change(started="2026-01-01T00:00:00"),
    "impossible sizes of segments": impossible,
    "a segment that cannot be so long": bomb,
}


@pytest.mark.parametrize("lie", LIES)
def test_wrong_manifest(store: Store, here: Location, folder: Path, lie: str) -> None:
    file = folder / "manifest.json"
    file.write_text(LIES[lie](json.loads(file.read_text())))
    began, memory = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ManifestInvalid, match=r"box/one") as caught:
        open_artifact(store, here)
    assert time.monotonic() - began < 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 600 * 1024
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("field", ["sha256", "raw"])
def test_manifest_with_wrong_facts_about_a_segment(store: Store, here: Location, folder: Path, field: str) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    first, last = manifest["segments"][0], manifest["segments"][-1]
    if field == "raw":
        first["raw"], last["raw"] = last["raw"], first["raw"]
    else:
        first["sha256"] = last["sha256"]
    file.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactCorrupt, match="segment 0"):
        take(open_artifact(store, here))


def test_no_manifest_is_no_backup(store: Store, here: Location, folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(ArtifactMissing, match=r"no backup found at file:///.*box/one"):
        open_artifact(store, here)


@pytest.mark.parametrize("identities", [[], [OTHER]])
def test_a_wrong_identity_is_reported_before_anything_is_read(
    store: Store, top: Path, here: Location, identities: list[str]
) -> None:
    write_artifact(store, here, DATA, SMALL, [RECIPIENT])
    for file in sorted((top / "box" / "one").glob("[0-9]*"))[1:]:
        file.unlink()
    with pytest.raises(CannotDecrypt, match="box/one is encrypted") as caught:
        open_artifact(store, here, identities)
    assert "identity_files" in caught.value.remedy


def test_one_of_several_identities_is_enough(store: Store, here: Location) -> None:
    write_artifact(store, here, DATA, SMALL, [RECIPIENT, new_identity()[1]])
    assert take(open_artifact(store, here, [OTHER, IDENTITY])) == DATA


def test_damaged_header_is_not_reported_as_a_wrong_key(store: Store, top: Path, here: Location) -> None:
    write_artifact(store, here, DATA, SMALL, [RECIPIENT])
    segment = top / "box" / "one" / "00000000"
    data = bytearray(segment.read_bytes())
    data[data.index(b"X25519") + 10] ^= 1
    segment.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        take(open_artifact(store, here, [IDENTITY]))
    assert isinstance(caught.value, ArtifactCorrupt)


def test_unencrypted_segments_in_an_encrypted_backup_are_refused(store: Store, top: Path, here: Location) -> None:
    write_artifact(store, here, DATA, SMALL, [RECIPIENT])
    segment = top / "box" / "one" / "00000001"
    segment.write_bytes(zstandard.compress(b"evil"))
    with pytest.raises(ArtifactCorrupt, match="segment 1"):
        take(open_artifact(store, here, [IDENTITY]))


@pytest.mark.parametrize("damage", ["flipped", "missing", "another's", "bomb"])
def test_damaged_index(store: Store, top: Path, here: Location, damage: str) -> None:
    write_artifact(store, here, mb_file("f", noise(1000)), stream="mbstream")
    index = top / "box" / "one" / "index.json.zst"
    manifest = top / "box" / "one" / "manifest.json"
    if damage == "flipped":
        flip(index)
    elif damage == "missing":
        index.unlink()
    else:
        content = b'{"g":[[0,10]]}' if damage == "another's" else b" " * 200_000_000
        index.write_bytes(zstandard.compress(content))
        lie = json.loads(manifest.read_text())
        lie["index"] = {"stored": index.stat().st_size, "sha256": hashlib.sha256(index.read_bytes()).hexdigest()}
        manifest.write_text(json.dumps(lie))
    reader = open_artifact(store, here)
    report = verify(reader)
    assert len(report.problems) == 1
    assert "index" in str(report.problems[0])
    assert len(take(reader)) == reader.manifest.raw_size


def test_malformed_stream_under_good_hashes_is_found(store: Store, top: Path, here: Location) -> None:
    write_artifact(store, here, [*mb_file("f", noise(1000)), b"rubbish rubbish rubbish"])
    file = top / "box" / "one" / "manifest.json"
    file.write_text(file.read_text().replace('"stream": "plain"', '"stream": "mbstream"'))
    report = verify(open_artifact(store, here))
    assert [str(problem) for problem in report.problems if "not a whole mbstream" in str(problem)]


def test_manifest_is_read_as_it_was_written(store: Store, here: Location) -> None:
    names = {"name": 'q"uote\n\u2028漢', "description": "x" * 5000, "instance_name": "'"}
    manifest = write_artifact(store, here, DATA, **names)
    assert load_manifest(store, here) == manifest
    assert manifest.name == names["name"]
