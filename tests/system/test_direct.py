"""Direct writes: arbitrary offsets and lengths, and file systems that do not support them."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.system.direct import BLOCK, PIECE, Output

SIZE = 3 * PIECE + 12345
DATA = random.Random(1).randbytes(SIZE)


@pytest.fixture
def file(place: Path) -> Iterator[Path]:
    path = place / "file"
    yield path
    path.unlink(missing_ok=True)


def opened(path: Path, *, cached: bool = False) -> Output:
    return Output(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), cached=cached)


def write(output: Output, cuts: list[int], order: random.Random) -> None:
    """Write the data in parts, concurrently and in random order. ``cuts`` are the offsets at which it is split."""
    places = sorted({0, SIZE, *cuts})
    parts = list(itertools.pairwise(places))
    order.shuffle(parts)
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(output.write, begin, memoryview(DATA)[begin:end]) for begin, end in parts]:
            done.result()
    output.close()


def is_open(path: Path) -> bool:
    """Whether this process has an open descriptor of the file. Other descriptors may be opened and closed meanwhile."""
    held = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            held.add(entry.readlink())
    return path in held


CUTS = st.lists(st.integers(0, SIZE) | st.integers(0, SIZE // BLOCK).map(lambda n: n * BLOCK), max_size=8)


@settings(max_examples=40, deadline=None)
@given(cuts=CUTS, order=st.randoms(use_true_random=False), cached=st.booleans())
def test_written_data_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], order: random.Random, cached: bool
) -> None:
    path = tmp_path_factory.mktemp("direct") / "file"
    write(opened(path, cached=cached), cuts, order)
    assert path.read_bytes() == DATA and not is_open(path)
    path.unlink()


def test_large_parts_are_not_in_the_page_cache(file: Path) -> None:
    output = opened(file)
    output.write(5, DATA)
    output.close()
    assert file.read_bytes() == b"\0" * 5 + DATA
    output = opened(file)
    output.write(5, DATA)
    assert cached_pages(file) <= 2  # the unaligned ends
    output.close()


def cached_pages(path: Path) -> int:
    """Pages of the file in the page cache."""
    import ctypes
    import mmap

    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        buffer = (ctypes.c_char * len(memory)).from_buffer(memory)
        pages = (ctypes.c_ubyte * -(-len(memory) // mmap.PAGESIZE))()
        assert ctypes.CDLL(None, use_errno=True).mincore(ctypes.byref(buffer), ctypes.c_size_t(len(memory)), pages) == 0
        del buffer
        return sum(page & 1 for page in pages)


@pytest.mark.parametrize("what", ["open", "write"])
def test_file_system_without_direct_writes(file: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    real_open, real_write = os.open, os.pwrite
    direct: set[int] = set()

    def open_(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_DIRECT and what == "open":
            raise OSError(errno.EINVAL, "cannot")
        fd = real_open(path, flags, *arguments, **options)
        if flags & os.O_DIRECT:
            direct.add(fd)
        return fd

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if fd in direct:
            raise OSError(errno.EINVAL, "cannot")
        return real_write(fd, data, offset)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(os, "pwrite", pwrite)
    write(opened(file), [PIECE + 77], random.Random(1))
    assert file.read_bytes() == DATA


def test_short_writes_are_continued(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, memoryview(data)[: max(1, len(data) * 2 // 3)], offset))
    write(opened(file), [PIECE, PIECE + 77], random.Random(1))
    assert file.read_bytes() == DATA


def test_full_disk_raises_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int, data: Any, offset: int) -> int:
        raise OSError(errno.ENOSPC, "full")

    output = opened(file)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="full"):
        output.write(0, DATA)
    output.close()
    output.close()
