"""The walker over mbstreams, against the real tool."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from strongroom.artifact.streams.mbstream import Mbstream
from strongroom.errors import ArtifactCorrupt
from support.artifacts import mb_end, mb_file, mb_payload, mb_remove, mb_rename, mb_seek, noise


def walk(stream: bytes, step: int = 1 << 20) -> Mbstream:
    found = Mbstream()
    view = memoryview(stream)
    for at in range(0, len(stream), step):
        found.feed(view[at : at + step])
    found.finish()
    return found


def unpack(stream: bytes, into: Path) -> dict[str, bytes]:
    into.mkdir()
    done = subprocess.run(["mbstream", "-x", "-C", into], input=stream, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    return {str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()}


def cut(stream: bytes, found: Mbstream, path: str) -> bytes:
    return b"".join(stream[offset : offset + length] for offset, length in dict(found.ranges())[path])


@pytest.fixture
def real(place: Path) -> tuple[bytes, dict[str, bytes]]:
    files = {"empty": b"", "db/t1.ibd": noise(25_000_000, 1), "db/@0n\u00e4.ibd": noise(70_000, 2), "backup.cnf": b"[mysqld]\n"}
    source = place / "source"
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    stream = subprocess.run(["mbstream", "-c", *files], cwd=source, capture_output=True, check=True).stdout
    return stream, files


@pytest.mark.parametrize("step", [1 << 25, 65_536, 4099])
def test_each_file_of_a_real_stream_can_be_extracted(real: tuple[bytes, dict[str, bytes]], place: Path, step: int) -> None:
    stream, files = real
    found = walk(stream, step)
    assert {path for path, _ in found.ranges()} == set(files)
    assert sum(length for _, ranges in found.ranges() for _, length in ranges) == len(stream)
    for number, (path, data) in enumerate(files.items()):
        assert unpack(cut(stream, found, path), place / str(number)) == {path: data}


def test_pieces_of_any_size() -> None:
    chunks = [*mb_file("a/b", noise(3000), 700), mb_rename("a/b", "c"), mb_seek("d", 50), mb_payload("d", b"x", 50), mb_end("d")]
    stream = b"".join(chunks)
    expected = list(walk(stream).ranges())
    for step in (*range(1, 60), 701, 1400):
        assert list(walk(stream, step).ranges()) == expected


def test_interleaved_renamed_removed_rewritten_and_sparse_files(place: Path) -> None:
    one, two = mb_file("one", noise(50_000, 1)), mb_file("two", noise(60_000, 2))
    mixed = [chunk for pair in zip(one, two, strict=False) for chunk in pair] + two[len(one) :]
    chunks = [
        *mixed,
        *mb_file("old", b"gone"),
        mb_rename("one", "old"),
        *mb_file("away", b"nothing"),
        mb_remove("away"),
        mb_rename("never", "seen"),
        mb_payload("two", b"rewritten", flags=2),
        mb_end("two"),
        mb_payload("sparse", b"begin"),
        mb_seek("sparse", 100),
        mb_payload("sparse", b"end", 100),
        mb_end("sparse"),
    ]
    stream = b"".join(chunks)
    whole = unpack(stream, place / "whole")
    found = walk(stream, 777)
    assert set(whole) == {path for path, _ in found.ranges()} == {"old", "two", "sparse"}
    for path, data in whole.items():
        assert unpack(cut(stream, found, path), place / path) == {path: data}


FILE = b"".join(mb_file("f", noise(30_000)))


@pytest.mark.parametrize(
    ("stream", "what"),
    [
        (b"", "empty"),
        (FILE[:-1], "within a chunk"),
        (FILE[:100], "within a chunk"),
        (FILE[: -len(mb_end("f"))], "'f' has no end"),
        (FILE + b"more", "within a chunk"),
        (FILE + b"more than a header has", "does not begin with its mark"),
        (FILE + FILE, "wrote 'f' twice"),
        (mb_payload("f", b"x", 5) + mb_end("f"), "a piece of 'f' is missing"),
        (mb_payload("f", b"x") + mb_rename("f", "g") + mb_end("f"), "moved before its end"),
        (mb_payload("f", b"x") + mb_remove("f") + mb_end("f"), "moved before its end"),
        (b"".join(mb_file("../f", b"x")), "leads outside"),
        (b"".join(mb_file("/etc/f", b"x")), "leads outside"),
        (b"".join(mb_file("a/../../f", b"x")), "leads outside"),
        (b"".join(mb_file("f" * 512, b"x")), "a path of 512 bytes"),
        (mb_end(""), "a path of 0 bytes"),
        (FILE + mb_rename("f", "../g"), "leads outside"),
        (FILE + mb_rename("f", "g" * 600), "a path of 600 bytes"),
        (mb_end("f").replace(b"E", b"Z"), "unknown type b'Z'"),
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_incomplete_streams_are_refused(stream: bytes, what: str, step: int) -> None:
    with pytest.raises(ArtifactCorrupt, match=what):
        walk(stream, step)


def test_any_damage_of_a_header_is_detected_or_harmless() -> None:
    source = random.Random(4)
    stream = b"".join(mb_file("some/file", noise(500), 100))
    for _ in range(2000):
        damaged = bytearray(stream)
        damaged[source.randrange(len(stream))] ^= 1 << source.randrange(8)
        try:
            walk(bytes(damaged), 64)
        except ArtifactCorrupt:
            continue
        # what is left are payloads, checksums, flags and names: all covered by the SHA-256 of the segment
