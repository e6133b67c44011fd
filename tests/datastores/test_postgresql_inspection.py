"""Pages are checked while a backup passes by: damage is named, and what the server writes just then is not damage."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from strongroom.artifact import Pages
from strongroom.artifact.streams.tar import Tar
from strongroom.datastores import BackupRequest, Server
from strongroom.datastores.postgresql.backup.inspection import PageInspection
from strongroom.datastores.postgresql.files.pages import PAGE, _checksums
from support import postgresql
from support.identity import run_as
from support.postgresql import PostgreSQLServer, Writer, driver, fill
from support.sessions import pieces

SIZES = (8192, 300_001, 1 << 20, 512, 77)


def inspected(server: Server, work_dir: Path) -> tuple[Pages, int]:
    """Take a backup and look at it, cut into pieces of any size. With the number of bytes."""
    session = driver.backups.begin(server, BackupRequest("full", None, work_dir))
    walk = Tar()
    walk.tap = inspection = session.inspection
    assert inspection is not None
    rng, size = random.Random(1), 0
    try:
        while data := bytes(next(pieces(session.stdout, rng.choice(SIZES)), b"")):
            walk.feed(data)
            size += len(data)
            if work := inspection.take():
                work()
        walk.finish()
        session.finish()
    finally:
        session.abort()
    return inspection.pages(), size


@pytest.fixture
def server(place: Path) -> Iterator[PostgreSQLServer]:
    with postgresql.running(place) as instance:
        instance.sql("CREATE DATABASE db1", "postgres")
        with instance.connect() as connection:
            fill(connection)
        yield instance


def damage(path: Path, block: int, at: int, new: bytes | None = None) -> None:
    with path.open("r+b") as file:
        file.seek(block * PAGE + at)
        byte = file.read(1)
        file.seek(block * PAGE + at)
        file.write(new or bytes([byte[0] ^ 1]))


def test_damage_is_reported_and_concurrent_writes_are_not(server: PostgreSQLServer, place: Path) -> None:
    with Writer(server.connect()):
        pages, size = run_as(server.server.user, inspected, server.server, postgresql.scratch(place, "one"))
    assert pages.damaged == 0
    assert size // 2 // PAGE < pages.checked < size // PAGE

    ((path,),) = server.sql("SELECT pg_relation_filepath('customers')")
    server.end()
    damage(server.server.data_dir / path, 3, 4000)
    damage(server.server.data_dir / path, 5, 0, random.Random(2).randbytes(PAGE))  # garbage has any position in the WAL
    server.start()
    pages, _ = run_as(server.server.user, inspected, server.server, postgresql.scratch(place, "two"))
    assert (pages.damaged, [(page.path, page.block) for page in pages.named]) == (2, [(path, 3), (path, 5)])


# --- without a server

START = 0x2_0000_0000
LABEL = b"START WAL LOCATION: 2/0 (file 000000010000000200000000)\nCHECKPOINT LOCATION: 2/60\n"
FILE = "base/5/16384"


def page(block: int, lsn: int, seed: int = 0) -> bytes:
    """A page as a server would write it."""
    data = bytearray(random.Random(seed * 1000 + block).randbytes(PAGE))
    struct.pack_into("<IIHHHHHH", data, 0, lsn >> 32, lsn & 0xFFFFFFFF, 0, 0, 24, 100, PAGE, PAGE | 4)
    words = np.frombuffer(data, "<u4").reshape(1, 64, 32)
    scratch = [np.empty((1, 32), np.uint32) for _ in range(3)]
    struct.pack_into("<H", data, 8, int(_checksums(words, np.array([block], np.uint32), scratch)[0]))
    return bytes(data)


OLD = [page(n, START - 100) for n in range(300)]


def look(place: Path, stored: dict[str, bytes], sent: dict[str, bytes], step: int = 100_000) -> list[tuple[str, int]]:
    """What is found when ``sent`` passes by and ``stored`` is on disk."""
    for name, content in stored.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    inspection = PageInspection(place)
    for name, content in {"backup_label": LABEL, **sent}.items():
        for at in range(0, max(1, len(content)), step):
            inspection.saw(name, at, memoryview(content)[at : at + step])
        if work := inspection.take():
            work()
    return [(found.path, found.block) for found in inspection.pages().named]


def joined(pages: list[bytes], **changed: bytes) -> bytes:
    return b"".join(changed.get(f"p{n}", data) for n, data in enumerate(pages))


TORN = OLD[7][:4096] + page(7, START + 100, 1)[4096:]


@pytest.mark.parametrize("step", [512, 8192, 10_000, 1 << 20])
@pytest.mark.parametrize("count", [1, 20, 300])
def test_good_pages(tmp_path: Path, count: int, step: int) -> None:
    content = joined(OLD[:count])
    assert look(tmp_path, {FILE: content}, {FILE: content}, step) == []


@pytest.mark.parametrize("step", [512, 8192, 10_000, 1 << 20])
def test_a_page_that_is_damaged_on_disk(tmp_path: Path, step: int) -> None:
    bad = joined(OLD, p7=TORN)
    assert look(tmp_path, {FILE: bad}, {FILE: bad}, step) == [(FILE, 7)]


def test_a_page_that_was_written_meanwhile(tmp_path: Path) -> None:
    whole = page(7, START + 100, 1)
    assert look(tmp_path, {FILE: joined(OLD, p7=whole)}, {FILE: joined(OLD, p7=TORN)}) == []


def test_a_page_that_was_damaged_while_it_was_read(tmp_path: Path) -> None:
    assert look(tmp_path, {FILE: joined(OLD)}, {FILE: joined(OLD, p7=TORN)}) == [(FILE, 7)]


def test_a_file_that_was_dropped_or_truncated_meanwhile(tmp_path: Path) -> None:
    sent = {FILE: joined(OLD, p7=TORN)}
    assert look(tmp_path, {}, sent) == []
    assert look(tmp_path, {FILE: joined(OLD[:7])}, sent) == []
    assert look(tmp_path, {FILE: joined(OLD[:7]) + bytes(PAGE)}, sent) == []


def test_later_files_of_a_relation(tmp_path: Path) -> None:
    content = b"".join(page(131072 + n, START - 1) for n in range(3))
    assert look(tmp_path, {f"{FILE}.1": content}, {f"{FILE}.1": content}) == []
    assert look(tmp_path, {FILE: content}, {FILE: content}) == [(FILE, 0), (FILE, 1), (FILE, 2)]


@pytest.mark.parametrize("step", [5, 512, 8192, 10_000, 1 << 20])
def test_an_incremental_file(tmp_path: Path, step: int) -> None:
    wanted = [2, 7, 250]
    head = struct.pack("<III3I", 0xD3AE1F0D, 3, 300, *wanted)
    head += bytes(-len(head) % PAGE)
    name = "base/5/INCREMENTAL.16384"
    good = {name: head + b"".join(OLD[n] for n in wanted)}
    bad = {name: head + OLD[2] + TORN + OLD[250]}
    disk = {FILE: joined(OLD, p7=TORN)}
    assert look(tmp_path, disk, good, step) == []
    assert look(tmp_path, disk, bad, step) == [(FILE, 7)]
    assert look(tmp_path, {}, {name: struct.pack("<III", 0xD3AE1F0D, 0, 300)}, step) == []


def test_other_files_are_not_checked(tmp_path: Path) -> None:
    assert look(tmp_path, {}, {"pg_xact/0000": bytes(range(256)) * 64, "global/pg_control": bytes(range(256)) * 32}) == []
