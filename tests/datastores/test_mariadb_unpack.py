"""Streams unpacked by us, compared with what the real mbstream makes of them."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from strongroom.datastores.innodb.unpack import Unpack
from strongroom.datastores.toolkit.writer import Writer
from strongroom.errors import ArtifactCorrupt
from support import mariadb
from support.artifacts import mb_end, mb_file, mb_payload, mb_remove, mb_rename, mb_seek, noise

Tree = dict[str, bytes | None]


def tree(top: Path) -> Tree:
    """Every file with its content, every directory without."""
    return {str(p.relative_to(top)): p.read_bytes() if p.is_file() else None for p in top.rglob("*")}


def actual(stream: bytes, into: Path, step: int = 1 << 20) -> Tree:
    into.mkdir()
    with Writer() as writer:
        unpack = Unpack(into, writer)
        for at in range(0, len(stream), step):
            unpack.feed(stream[at : at + step])
        unpack.finish()
    return tree(into)


def theirs(stream: bytes, into: Path) -> Tree:
    into.mkdir()
    done = subprocess.run(["mbstream", "-x", "-C", into], input=stream, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    return tree(into)


def test_a_backup_of_a_real_server(place: Path, pool: str) -> None:
    with mariadb.running(place, pool) as server:
        server.fill(300)
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE db1.squeezed (a INT PRIMARY KEY, b LONGTEXT) PAGE_COMPRESSED=1")
            cursor.executemany("INSERT INTO db1.squeezed VALUES (%s, REPEAT('squeeze me ', 1000))", [(n,) for n in range(400)])
            cursor.execute("CREATE TABLE db1.`ünïcode $` (a INT) ENGINE=Aria")
            cursor.execute("CREATE TABLE db1.nothing (a INT) ENGINE=InnoDB")
        server.checkpoint()
        full = mariadb.backup(server, place, "full")
        with server.connect() as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE db1.squeezed SET b = 'short' WHERE a % 5 = 0")
            cursor.execute("CREATE TABLE db1.later (a INT PRIMARY KEY) AS SELECT a FROM db1.squeezed")
        server.checkpoint()
        incremental = mariadb.backup(server, place, "incremental", full)
    for name, link in (("full", full), ("incremental", incremental)):
        stream = link.path.read_bytes()
        found = actual(stream, place / f"actual-{name}", 1_000_003)
        assert found == theirs(stream, place / f"theirs-{name}")
        assert len(found) > 50
    squeezed = "db1/squeezed.ibd"
    blocks = [(place / who / squeezed).stat().st_blocks for who in ("actual-full", "theirs-full")]
    size = (place / "actual-full" / squeezed).stat().st_size
    assert blocks[0] * 512 < size / 2  # the holes are there
    assert abs(blocks[0] - blocks[1]) <= 64


MOVES: dict[str, list[bytes]] = {
    "renamed": [*mb_file("db/a", noise(30_000, 1)), mb_rename("db/a", "db/b")],
    "renamed over another": [*mb_file("db/a", noise(30_000, 1)), *mb_file("db/b", noise(50_000, 2)), mb_rename("db/a", "db/b")],
    "renamed and there again": [*mb_file("a", noise(30_000, 1)), mb_rename("a", "b"), *mb_file("a", noise(9_000, 2))],
    "renamed a missing file": [*mb_file("db/a", b"x"), mb_rename("db/c", "db/d")],
    "removed": [*mb_file("db/a", noise(30_000, 1)), *mb_file("db/b", noise(3_000, 1)), mb_remove("db/a")],
    "removed a missing file": [*mb_file("db/a", b"x"), mb_remove("db/c"), mb_remove("no/*")],
    "removed by a prefix": [*mb_file("db/t#1", b"x"), *mb_file("db/t#2", b"x"), *mb_file("db/u", b"y"), mb_remove("db/t#*")],
    "removed a directory": [*mb_file("db/a", b"x"), *mb_file("db/b", b"x"), *mb_file("other", b"y"), mb_remove("db")],
    "written again": [*mb_file("a", noise(30_000, 1)), mb_payload("a", b"short", flags=2), mb_end("a")],
    "sought": [mb_payload("a", b"12345"), mb_seek("a", 9_000), mb_payload("a", b"67890", 9_000), mb_end("a")],
    "nothing in it": [mb_end("empty"), *mb_file("a", b"x")],
    "two at once": [mb_payload("a", b"1"), mb_payload("b", b"2"), mb_payload("a", b"3", 1), mb_end("b"), mb_end("a")],
}


@pytest.mark.parametrize("what", MOVES)
@pytest.mark.parametrize("step", [1 << 20, 17])
def test_renames_and_removals_in_a_stream(place: Path, what: str, step: int) -> None:
    stream = b"".join(MOVES[what])
    assert actual(stream, place / "actual", step) == theirs(stream, place / "theirs")


def test_files_in_any_order_and_size(place: Path) -> None:
    """Larger than what is sent to the disk at a time, and than what may be on its way."""
    rng = random.Random(7)
    files = {f"d{n % 3}/f{n}": noise(rng.choice([0, 1, 4096, 9_000_000, 70_000_000]), n) for n in range(8)}
    chunks = {name: mb_file(name, data, 5_000_000) for name, data in files.items()}
    stream = []
    while chunks:
        name = rng.choice(list(chunks))
        stream.append(chunks[name].pop(0))
        if not chunks[name]:
            del chunks[name]
    found = actual(b"".join(stream), place / "actual", 1 << 25)
    assert {name: data for name, data in found.items() if data is not None} == files


@pytest.mark.parametrize("bad", ["../x", "/x", "db/../../x", "a/b"])
def test_names_that_lead_elsewhere(place: Path, bad: str) -> None:
    with pytest.raises(ArtifactCorrupt):
        actual(b"".join([*mb_file("a", b"a file"), *mb_file(bad, b"evil")]), place / "actual")
    assert {p.name for p in place.iterdir()} == {"actual"}


def test_an_existing_link_is_not_followed(place: Path) -> None:
    outside = place / "outside"
    outside.write_text("mine")
    (place / "actual").mkdir()
    (place / "actual" / "a").symlink_to(outside)
    with pytest.raises(ArtifactCorrupt), Writer() as writer:
        Unpack(place / "actual", writer).feed(b"".join(mb_file("a", b"evil")))
    assert outside.read_text() == "mine"
