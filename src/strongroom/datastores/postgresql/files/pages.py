"""Page checksums: PostgreSQL's own, computed on many pages at a time."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from strongroom.datastores.postgresql.files.page_sizes import PAGE, PAGES_PER_FILE

Words = NDArray[np.uint32]
Data = bytes | bytearray | memoryview

_BATCH = 1024
_BASES = np.array(
    [
        0x5B1F36E9, 0xB8525960, 0x02AB50AA, 0x1DE66D2A, 0x79FF467A, 0x9BB9F8A3, 0x217E7CD2, 0x83E13D2C,
        0xF8D4474F, 0xE39EB970, 0x42C6AE16, 0x993216FA, 0x7B093B5D, 0x98DAFF3C, 0xF718902A, 0x0B1C9CDB,
        0xE58F764B, 0x187636BC, 0x5D7B3BB1, 0xE73DE7DE, 0x92BEC979, 0xCCA6C0B2, 0x304A0979, 0x85AA43D4,
        0x783125BB, 0x6CA8EAA2, 0xE407EAC6, 0x4B5CFC3E, 0x9FBF8C76, 0x15CA20BE, 0xF2CA9FD3, 0x959BD756,
    ],
    np.uint32,
)  # fmt: skip
_PRIME = np.uint32(16777619)
_SHIFT = np.uint32(17)
_LOW = np.uint32(0xFFFF)
_HIGH = np.uint32(0xFFFF0000)
_RELATION = re.compile(r"(?:base/\d+|global|pg_tblspc/\d+/PG_[^/]+/\d+)/(?:INCREMENTAL\.)?\d+(?:_(?:fsm|vm|init))?(?:\.(\d+))?")


def find_first_block(path: str) -> int | None:
    """The number of a file's first block in its relation; none for a file that does not consist of pages."""
    found = _RELATION.fullmatch(path)
    return int(found[1] or 0) * PAGES_PER_FILE if found else None


def find_damaged(data: Data, first: int, replayed: range = range(0)) -> list[int]:
    """Numbers of the blocks whose pages are damaged. ``data`` contains whole pages; ``first`` is the number of the first one.

    Pages whose last change is in the WAL of the backup, at the positions ``replayed``, are not checked: a backup may read them
    half-written, and the replay writes them again.
    """
    blocks = np.arange(first, first + len(data) // PAGE, dtype=np.uint32)
    view = memoryview(data)
    return [first + n for n in find_wrong_pages(data, blocks) if read_position(view[n * PAGE :]) not in replayed]


def read_position(page: Data) -> int:
    """The WAL position of the page's last change."""
    high, low = struct.unpack_from("<II", page)
    return int(high) << 32 | int(low)


def find_wrong_pages(data: Data, blocks: Words) -> list[int]:
    """The pages that have a wrong checksum, or are unused but not empty.

    ``data`` contains whole pages, ``blocks`` their numbers in their relations.
    """
    pages = np.frombuffer(data, "<u4").reshape(-1, PAGE // 128, 32)
    scratch = [np.empty((min(_BATCH, len(pages)), 32), np.uint32) for _ in range(3)]
    found: list[int] = []
    for start in range(0, len(pages), _BATCH):
        found += [start + n for n in _wrong(pages[start : start + _BATCH], blocks[start : start + _BATCH], scratch)]
    return found


def _wrong(pages: Words, numbers: Words, scratch: list[Words]) -> list[int]:
    wrong = _checksums(pages, numbers, scratch) != pages[:, 0, 2] & _LOW
    unused = pages[:, 0, 3] >> np.uint32(16) == 0  # pd_upper
    if unused.any():
        wrong[unused] = pages[unused].reshape(-1, PAGE // 4).any(axis=1)
    return [int(n) for n in np.flatnonzero(wrong)]


def _checksums(pages: Words, numbers: Words, scratch: list[Words]) -> Words:
    """Checksums as the server computes them: 32 parallel sums over the rows of a page (FNV-1a with a shift)."""
    state, mixed, shifted = (part[: len(pages)] for part in scratch)
    state[:] = _BASES
    for row in _rows(pages):
        np.bitwise_xor(state, row, out=mixed)
        np.multiply(mixed, _PRIME, out=state)
        np.right_shift(mixed, _SHIFT, out=shifted)
        np.bitwise_xor(state, shifted, out=state)
    folded = np.bitwise_xor.reduce(state, axis=1)
    return np.asarray((folded ^ numbers) % np.uint32(65535) + np.uint32(1))


def _rows(pages: Words) -> Iterator[Words | np.uint32]:
    first = pages[:, 0, :].copy()
    first[:, 2] &= _HIGH  # the checksum itself counts as zero
    yield first
    for n in range(1, pages.shape[1]):
        yield pages[:, n, :]
    yield np.uint32(0)
    yield np.uint32(0)
