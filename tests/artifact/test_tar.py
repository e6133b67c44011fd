"""The walker over tar streams, against the real tool."""

from __future__ import annotations

import io
import random
import subprocess
import tarfile
from pathlib import Path

import pytest

from strongroom.artifact import Location, open_artifact, verify
from strongroom.artifact.streams.tar import BLOCK, Member, Tar, content
from strongroom.errors import ArtifactCorrupt, NotFound
from strongroom.storage import Store
from support.artifacts import noise, write_artifact

FILES = {"PG_VERSION": b"18\n", "base/1/2": noise(3 * 8192, 1), "empty": b"", "d" * 90 + "/" + "e" * 90: noise(700, 2)}


def tar(files: dict[str, bytes], *, directories: tuple[str, ...] = ("base", "base/1"), end: bool = True) -> bytes:
    """As Python's own library writes it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name in directories:
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        length = archive.offset
    return buffer.getvalue() if end else buffer.getvalue()[:length]


def walk(stream: bytes, step: int = 1 << 20, keep: tuple[str, ...] = ()) -> Tar:
    found = Tar(keep)
    view = memoryview(stream)
    for at in range(0, len(stream), step):
        found.feed(view[at : at + step])
    found.finish()
    return found


@pytest.mark.parametrize("step", [1, 511, 4099, 1 << 20])
def test_each_file_can_be_extracted(place: Path, step: int) -> None:
    stream = tar(FILES)
    found = walk(stream, step, keep=("PG_VERSION", "none"))
    assert found.files == len(FILES)
    assert found.kept == {"PG_VERSION": b"18\n"}
    for path, ((offset, length),) in found.ranges():
        alone = stream[offset : offset + length]
        assert content(alone) == FILES[path]
        listed = subprocess.run(["tar", "-xOf", "-", path], input=alone, capture_output=True, check=True)
        assert (listed.stdout, listed.stderr) == (FILES[path], b"")


def test_sizes_above_8_gib_are_understood() -> None:
    info = tarfile.TarInfo("base/1/2")
    info.size = 9 << 30
    assert Member.parse(info.tobuf(tarfile.GNU_FORMAT)).size == 9 << 30


def test_links_are_no_files() -> None:
    info = tarfile.TarInfo("pg_tblspc/16400")
    info.type, info.linkname = tarfile.SYMTYPE, "/srv/space"
    header = info.tobuf(tarfile.USTAR_FORMAT)
    assert Member.parse(header) == Member("pg_tblspc/16400", "link", 0, 0o644, "/srv/space")
    assert walk(header + bytes(2 * BLOCK)).files == 0


def broken(change: dict[str, object]) -> bytes:
    info = tarfile.TarInfo("file")
    for name, value in change.items():
        setattr(info, name, value)
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(2 * BLOCK)


@pytest.mark.parametrize(
    ("stream", "what"),
    [
        (b"", "empty"),
        (tar(FILES, end=False), "ends too early"),
        (tar(FILES)[:1000], "ends too early"),
        (tar(FILES) + b"more", "continues after its end"),
        (tar(FILES, end=False) + tar(FILES), "'PG_VERSION' comes twice"),
        (b"\1" * 2048, "not ustar"),
        (broken({"name": "../file"}), "leads outside"),
        (broken({"name": "/etc/file"}), "leads outside"),
        (broken({"name": "a//file"}), "leads outside"),
        (broken({"name": "."}), "leads outside"),
        (broken({"type": tarfile.LNKTYPE}), "a hard link, 'file'"),
        (broken({"type": tarfile.FIFOTYPE}), "type b'6'"),
        (tar(FILES).replace(b"PG_VERSION", b"PG_VERSIOM"), "wrong sum"),
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_incomplete_streams_are_refused(stream: bytes, what: str, step: int) -> None:
    with pytest.raises(ArtifactCorrupt, match=what):
        walk(stream, step)


def test_any_damage_of_a_header_is_detected_or_harmless() -> None:
    source = random.Random(4)
    stream = tar({"base/1/2": noise(600)}, directories=())[: 5 * BLOCK]
    expected = list(walk(stream).ranges())
    for _ in range(3000):
        damaged = bytearray(stream)
        damaged[source.randrange(BLOCK)] ^= 1 << source.randrange(8)
        try:
            found = walk(bytes(damaged), 64)
        except ArtifactCorrupt:
            continue
        assert list(found.ranges()) == expected  # the sum of a header may be written in several ways


def test_stored_tar_gives_single_files_and_is_verified(store: Store) -> None:
    here = Location(container="box", id="one")
    files = {f"base/1/{n}": noise(50_000, n) for n in range(12)}
    manifest = write_artifact(store, here, tar(files), stream="tar")
    assert len(manifest.segments) > 5
    reader = open_artifact(store, here)
    report = verify(reader)
    assert (report.ok, report.files) == (True, 12)
    assert reader.read("base/1/7") == files["base/1/7"]
    assert set(reader.index()) == set(files)
    part = b"".join(reader.extract(["base/1/9", "base/1/2"])) + bytes(2 * BLOCK)
    with tarfile.open(fileobj=io.BytesIO(part)) as archive:
        assert archive.getnames() == ["base/1/2", "base/1/9"]
    with pytest.raises(NotFound, match="base/1/12"):
        reader.read("base/1/12")


def test_incomplete_tar_is_not_a_backup(store: Store) -> None:
    with pytest.raises(ArtifactCorrupt, match="ends too early"):
        write_artifact(store, Location(container="box", id="one"), tar(FILES)[:-9000], stream="tar")
