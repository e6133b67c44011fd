"""Files of an incremental that contain some blocks of a relation only, and the relations that their names denote."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from strongroom.errors import ArtifactCorrupt

BLOCK = 8192
BLOCKS_PER_FILE = 131072
"""A relation is divided into files of 1 GiB."""
HEAD = struct.Struct("<III")
"""The beginning of such a file: magic number, number of blocks in it, number of blocks that older files may complete."""
_MARK = 0xD3AE1F0D
_PREFIX = "INCREMENTAL."
_FORKS = ("", "_fsm", "_vm", "_init")
MAP = _FORKS.index("_vm")
"""The visibility map: the fork that records which pages contain only rows visible to all."""
_DEFAULT_SPACE, _GLOBAL_SPACE = "1663", "1664"
_NAME = re.compile(r"(?:base/(\d+)|(global)|pg_tblspc/(\d+)/[^/]+/(\d+))/(\d+)(_fsm|_vm|_init)?(?:\.(\d+))?")


class Relation(NamedTuple):
    """One fork of a relation, by ids: tablespace, database, file; the fork is 0 for the main one."""

    space: str
    database: str
    number: str
    fork: int

    def __str__(self) -> str:
        return "/".join(map(str, self))


def find_whole_path(path: str) -> str | None:
    """The file to which the blocks in ``path`` belong; none if ``path`` is an ordinary file."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + name.removeprefix(_PREFIX) if name.startswith(_PREFIX) else None


def increment_path(path: str) -> str:
    """The path in an incremental of the blocks of the file ``path``."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + _PREFIX + name


def find_relation(path: str) -> tuple[Relation, int] | None:
    """The relation of a file, and the number of the file's first block in it; none if it belongs to no relation."""
    found = _NAME.fullmatch(path)
    if found is None:
        return None
    database, shared, space, spaced, number, fork, segment = found.groups()
    where = (space, spaced) if space else (_GLOBAL_SPACE, "0") if shared else (_DEFAULT_SPACE, database)
    return Relation(*where, number, _FORKS.index(fork or "")), int(segment or 0) * BLOCKS_PER_FILE


@dataclass(frozen=True, slots=True)
class Header:
    """``blocks`` are numbers of blocks in the file, ascending; blocks of older backups are valid below ``length``."""

    blocks: NDArray[np.uint32]
    length: int
    size: int
    """Size of the header in bytes, including padding."""

    @classmethod
    def count(cls, head: bytes, path: str) -> int:
        """The number of blocks that follow. Raises ArtifactCorrupt."""
        mark, count, _ = HEAD.unpack(head)
        if mark != _MARK or count > BLOCKS_PER_FILE:
            raise _damaged(path)
        return int(count)

    @classmethod
    def parse(cls, head: bytes, numbers: bytes, path: str, size: int) -> Header:
        """Parse the first bytes and the block numbers after them, of a file of ``size`` bytes. Raises ArtifactCorrupt."""
        blocks = np.frombuffer(numbers, "<u4").astype(np.uint32, copy=False)
        length = min(HEAD.unpack(head)[2], BLOCKS_PER_FILE)  # old servers write larger values for large relations
        header = len(head) + len(numbers)
        if len(blocks):
            header += -header % BLOCK
            if int(blocks[-1]) >= BLOCKS_PER_FILE or (np.diff(blocks.astype(np.int64)) <= 0).any():
                raise _damaged(path)
        if size != header + len(blocks) * BLOCK:
            raise _damaged(path)
        return cls(blocks, length, header)

    def until(self, limit: int | None) -> int:
        """``length``, or ``limit`` if that is smaller: a length to which the file is known to have been truncated."""
        return self.length if limit is None else min(self.length, limit)


def _damaged(path: str) -> ArtifactCorrupt:
    return ArtifactCorrupt(f"{path} of the stream is no incremental file", remedy="Restore another backup.")
