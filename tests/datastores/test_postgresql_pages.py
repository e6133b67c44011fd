"""Page checksums: what the server wrote is right, and every kind of damage is found in its block."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from strongroom.datastores.postgresql.files import pages as pages_module
from strongroom.datastores.postgresql.files.pages import PAGE, find_damaged, find_first_block, find_wrong_pages
from support.postgresql import fill, running, version


@pytest.fixture(scope="module")
def stopped() -> Iterator[Path]:
    """The data directory of a server that was used and stopped in good order."""
    with tempfile.TemporaryDirectory(prefix="sr-", dir="/tmp") as name, running(Path(name)) as instance:
        instance.sql("CREATE DATABASE db1", "postgres")
        with instance.connect() as connection:
            fill(connection)
            connection.execute("VACUUM customers")
        instance.end()
        yield instance.server.data_dir


def relations(data: Path) -> dict[str, int]:
    """Files that consist of pages, with the number of their first block."""
    names = (os.path.relpath(path, data) for path in data.rglob("*") if path.is_file())
    return {name: first for name in names if (first := find_first_block(name)) is not None}


def test_pages_of_a_server_have_correct_checksums(stopped: Path) -> None:
    found = relations(stopped)
    assert len(found) > 500
    assert any(name.endswith("_fsm") for name in found) and any(name.endswith("_vm") for name in found)
    assert any(name.endswith("_init") for name in found)
    sizes = {name: (stopped / name).stat().st_size for name in found}
    assert {name: find_damaged((stopped / name).read_bytes(), first) for name, first in found.items() if sizes[name]} == {
        name: [] for name in found if sizes[name]
    }
    said = subprocess.run(
        [version().programs["server"].with_name("pg_checksums"), "--check", stopped], capture_output=True, text=True, check=True
    )
    assert f"Blocks scanned:  {sum(sizes.values()) // PAGE}\n" in said.stdout  # it looks at the same files
    assert "Bad checksums:  0\n" in said.stdout


@pytest.fixture(scope="module")
def pages(stopped: Path) -> bytes:
    """Many pages of one table, the first with number 0."""
    largest = max((stopped / name for name in relations(stopped)), key=lambda path: path.stat().st_size)
    return largest.read_bytes()


@pytest.mark.parametrize("at", [0, 7, 8, 9, 10, 14, 18, 23, 24, 100, 4095, 4096, PAGE - 1])
def test_a_flipped_bit_is_found(pages: bytes, at: int) -> None:
    for block in (0, 3, len(pages) // PAGE - 1):
        bad = bytearray(pages)
        bad[block * PAGE + at] ^= 0x10
        assert find_damaged(bad, 0) == [block]


def test_pages_in_the_wrong_place_are_found(pages: bytes) -> None:
    swapped = pages[:PAGE] + pages[2 * PAGE : 3 * PAGE] + pages[PAGE : 2 * PAGE] + pages[3 * PAGE :]
    assert find_damaged(swapped, 0) == [1, 2]
    count = len(pages) // PAGE
    assert find_damaged(pages, pages_module.PAGES_PER_FILE) == list(
        range(pages_module.PAGES_PER_FILE, pages_module.PAGES_PER_FILE + count)
    )


def test_blocks_by_number(pages: bytes) -> None:
    wanted = [5, 2, 9]
    some = b"".join(pages[n * PAGE : (n + 1) * PAGE] for n in wanted)
    assert find_wrong_pages(some, np.array(wanted, np.uint32)) == []
    assert find_wrong_pages(some, np.array([5, 3, 9], np.uint32)) == [1]


def test_pages_of_zeros_are_new_and_others_without_content_are_not(pages: bytes) -> None:
    empty = pages[:PAGE] + bytes(2 * PAGE) + pages[3 * PAGE : 4 * PAGE]
    assert find_damaged(empty, 0) == []
    bad = bytearray(empty)
    bad[PAGE + 5000] = 1
    assert find_damaged(bad, 0) == [1]


def test_pages_that_the_wal_rewrites_are_not_checked(pages: bytes) -> None:
    bad = bytearray(pages)
    bad[4 * PAGE + 4000] ^= 1
    high, low = struct.unpack_from("<II", bad, 4 * PAGE)
    lsn = high << 32 | low
    assert find_damaged(bad, 0, range(lsn, lsn + 1)) == []
    assert find_damaged(bad, 0, range(lsn + 1, 1 << 64)) == [4]
    assert find_damaged(bad, 0, range(lsn)) == [4]  # garbage, at a position that the WAL of the backup has not


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("base/5/16384", 0),
        ("base/5/16384.2", 262144),
        ("base/5/16384_fsm", 0),
        ("base/5/16384_vm.1", 131072),
        ("base/1/INCREMENTAL.2600.1", 131072),
        ("global/1262", 0),
        ("pg_tblspc/16400/PG_15_202209061/5/16401_init", 0),
        ("global/pg_control", None),
        ("base/5/pg_filenode.map", None),
        ("base/5/PG_VERSION", None),
        ("base/5/t3_16384", None),
        ("pg_xact/0000", None),
        ("pg_wal/000000010000000000000001", None),
        ("backup_label", None),
        ("x/base/5/1", None),
    ],
)
def test_which_files_have_pages(path: str, first: int | None) -> None:
    assert find_first_block(path) == first
