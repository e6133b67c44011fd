"""What went in comes out, whatever the size, codec and key; and the tools of any Linux get it out without us."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from strongroom.artifact import Location, Writer, load_manifest, new_identity, open_artifact, verify
from strongroom.artifact.segments import index
from strongroom.errors import NotFound
from strongroom.sections import Artifact, Storage
from strongroom.storage import Store, open_store
from support.artifacts import FIELDS, SMALL, feed, mb_file, noise, take, write_artifact

IDENTITY, RECIPIENT = new_identity()
SEGMENT = 64 * 1024
BOUNDARIES = [1, SEGMENT - 1, SEGMENT, SEGMENT + 1, 3 * SEGMENT, 3 * SEGMENT + 17]


@given(
    size=st.one_of(st.sampled_from(BOUNDARIES), st.integers(1, 5 * SEGMENT)),
    codec=st.sampled_from(["zstd", "gzip"]),
    level=st.sampled_from([None, 1, 9, 19]),
    encrypted=st.booleans(),
    threads=st.integers(1, 4),
    seed=st.one_of(st.none(), st.integers(0, 9)),
)
@settings(max_examples=60, deadline=None)
def test_any_stream(size: int, codec: Any, level: int | None, encrypted: bool, threads: int, seed: int | None) -> None:
    data = bytes(size) if seed is None else noise(size, seed)
    here = Location(container="box", id="one")
    with tempfile.TemporaryDirectory() as top:
        store = open_store(Storage(), Path(top))
        how = Artifact(codec=codec, level=level, segment_size=SEGMENT, threads=threads)
        seen: list[tuple[int, int]] = []
        progress = lambda raw, stored: seen.append((raw, stored))  # noqa: E731
        manifest = write_artifact(store, here, data, how, [RECIPIENT] if encrypted else [], on_progress=progress)
        assert load_manifest(store, here) == manifest
        assert seen == sorted(seen)
        assert seen[-1] == (size, manifest.stored_size) == (manifest.raw_size, sum(s.stored for s in manifest.segments))
        assert len(manifest.segments) == -(-size // SEGMENT)
        reader = open_artifact(store, here, [IDENTITY] if encrypted else [], settings=how)
        assert take(reader) == data
        assert verify(reader).ok
        names = {path.name for path in (Path(top) / "box" / "one").iterdir()}
        assert names == {f"{n:08d}" for n in range(len(manifest.segments))} | {"manifest.json"}


@pytest.mark.parametrize(("codec", "tool"), [("zstd", ["zstd", "-dc"]), ("gzip", ["gzip", "-dc"])])
@pytest.mark.parametrize("encrypted", [False, True])
def test_stock_tools_unpack_the_segments(
    store: Store, top: Path, here: Location, codec: Any, tool: list[str], encrypted: bool
) -> None:
    data = noise(300_000)
    write_artifact(store, here, data, SMALL.model_copy(update={"codec": codec}), [RECIPIENT] if encrypted else [])
    files = sorted((top / "box" / "one").glob("[0-9]*"))
    segments = [file.read_bytes() for file in files]
    assert len(segments) > 3
    if encrypted:
        identity = pyrage.x25519.Identity.from_str(IDENTITY)
        segments = [pyrage.decrypt(segment, [identity]) for segment in segments]
    done = subprocess.run(tool, input=b"".join(segments), capture_output=True, check=True)
    assert done.stdout == data


def test_mbstream_with_its_index(store: Store, here: Location, place: Path) -> None:
    files = {"ibdata1": noise(200_000, 1), "db/t.ibd": noise(150_000, 2), "db/e": b"", "\u6f22": noise(10, 3)}
    streams = [mb_file(name, data) for name, data in files.items()]
    mixed = [stream.pop(0) for _ in range(50) for stream in streams if stream]
    write_artifact(store, here, mixed, SMALL, [RECIPIENT], stream="mbstream")
    reader = open_artifact(store, here, [IDENTITY])
    assert set(reader.index()) == set(files)
    report = verify(reader)
    assert (report.ok, report.files) == (True, 4)
    for wanted in (["db/t.ibd"], ["db/e", "ibdata1"], ["\u6f22"]):
        into = place / wanted[0].replace("/", "_")
        into.mkdir()
        subprocess.run(["mbstream", "-x", "-C", into], input=b"".join(reader.extract(wanted)), check=True)
        got = {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}
        assert got == {name: files[name] for name in wanted}
    with pytest.raises(NotFound, match="'nothing'"):
        reader.extract(["nothing"])


@pytest.mark.parametrize(("name", "value"), [("MAX_BYTES", 30), ("_MOST_PARTS", 3)])
def test_index_that_is_too_large_to_read_is_omitted(
    store: Store, here: Location, monkeypatch: pytest.MonkeyPatch, name: str, value: int
) -> None:
    """The backup is as good without it; with it, each verification would call the backup damaged."""
    monkeypatch.setattr(index, name, value)
    stream = [*mb_file("db/a.ibd", noise(50_000)), *mb_file("db/b.ibd", noise(50_000))]
    with Writer(store, here, SMALL, stream="mbstream") as writer:
        feed(stream, writer.copy_from)
        manifest = writer.finish(**{**FIELDS, "chain": here.id})
    assert manifest.index is None
    assert "has no index" in writer.warnings[0]
    reader = open_artifact(store, here)
    assert take(reader) == b"".join(stream)
    assert verify(reader).ok
    with pytest.raises(NotFound):
        reader.index()


def test_only_the_segments_of_a_file_are_fetched(store: Store, top: Path, here: Location) -> None:
    small = mb_file("small", b"x" * 100)
    write_artifact(store, here, [*mb_file("big", noise(500_000)), *small], stream="mbstream")
    for number in range(5):
        (top / "box" / "one" / f"{number:08d}").unlink()
    reader = open_artifact(store, here)
    assert b"".join(reader.extract(["small"])) == b"".join(small)


def test_against_swift_by_s3(swift: Any, here: Location) -> None:
    settings = Storage(
        driver="s3",
        bucket=swift.make_container(f"b{uuid4().hex}"),
        endpoint=swift.url,
        access_key_id=swift.user,
        secret_access_key=SecretStr(swift.password),
    )
    store = open_store(settings)
    data = noise(600_000)
    write_artifact(store, here, data, SMALL, [RECIPIENT])
    reader = open_artifact(open_store(settings), here, [IDENTITY])
    assert take(reader) == data
    assert verify(reader).ok
    assert sorted(stat.key for stat in store.list("")) == [*(here.segment(n) for n in range(10)), here.manifest]
