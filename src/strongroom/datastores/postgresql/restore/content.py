"""Copies files of a chain from a stream to their place, each verified by the list of files of its own backup."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial

from strongroom.artifact import Member
from strongroom.datastores.postgresql.files.increment import BLOCK
from strongroom.datastores.postgresql.files.manifest import File
from strongroom.datastores.toolkit.tar import TarReader
from strongroom.datastores.toolkit.writer import Writer
from strongroom.errors import ArtifactCorrupt
from strongroom.system.direct import BLOCK as UNIT
from strongroom.system.direct import Output

_PIECE = 256 * BLOCK


class Content:
    """Copies the content of a member into a file: hashes it in order, and closes the file at its end.

    Read it with ``copy``; or with ``exact`` and then ``each``.
    """

    def __init__(
        self, writer: Writer, member: Member, tar: TarReader, expected: File | None, output: Output, held: set[Output]
    ) -> None:
        self._writer = writer
        self._member = member
        self._pieces = tar.data()
        self._rest = memoryview(b"")
        self._left = member.size
        self._expected = expected
        self._hash = expected.hash() if expected else None
        self._output = output
        self._held = held
        self._last: Future[None] | None = None
        if expected and expected.size != member.size:
            raise _damaged(member.path, expected)

    def copy(self) -> None:
        """Write all of it."""
        offset = 0
        for piece in self._cut(1):
            self._begin(piece, partial(self._output.write, offset, piece))
            offset += len(piece)

    def exact(self, size: int) -> bytes:
        """Read exactly ``size`` bytes."""
        data = b"".join(self._take(size))
        if len(data) != size:
            raise corrupt(f"{self._member.path} is cut off")
        if self._hash:
            self._hash.update(data)
        return data

    def each(self, write: Callable[[int, memoryview], None]) -> None:
        """Call ``write`` with the number of a first block and whole blocks, until the end of the content, in any thread."""
        first = 0
        for piece in self._cut(BLOCK):
            whole = piece[: len(piece) // BLOCK * BLOCK]
            self._begin(piece, partial(write, first, whole))
            first += len(whole) // BLOCK

    def _take(self, size: int) -> Iterator[memoryview]:
        while size and self._left:
            if not self._rest:
                self._rest = next(self._pieces)
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            self._left -= len(piece)
            yield piece

    def _cut(self, unit: int) -> Iterator[memoryview]:
        """The rest in pieces, at least one. All but the last are multiples of ``unit`` and aligned to blocks of the disk."""
        if not self._left:
            yield memoryview(b"")
        place = 0
        while self._left:
            if not self._rest:
                self._rest = next(self._pieces)
            size = min(len(self._rest), _PIECE - place % UNIT) // unit * unit
            parts = list(self._take(size or unit))
            piece = parts[0] if len(parts) == 1 else memoryview(b"".join(parts))
            yield piece
            place += len(piece)

    def _begin(self, piece: memoryview, write: Callable[[], None]) -> None:
        work = partial(self._work, piece, write, self._last, last=not self._left)
        self._last = self._writer.begin(len(piece), work)

    def _work(self, piece: memoryview, write: Callable[[], None], before: Future[None] | None, *, last: bool) -> None:
        write()
        if before:
            before.result()  # began before this one
        if self._hash:
            self._hash.update(piece)
        if last:
            self._held.discard(self._output)
            self._output.close()
            if self._hash and self._expected and self._hash.hexdigest() != self._expected.checksum.lower():
                raise _damaged(self._member.path, self._expected)


def read_verified(member: Member, tar: TarReader, expected: File) -> bytes:
    """The verified content of a small file."""
    data = b"".join(tar.data())
    digest = expected.hash()
    digest.update(data)
    if len(data) != expected.size or digest.hexdigest() != expected.checksum.lower():
        raise _damaged(member.path, expected)
    return data


def _damaged(path: str, expected: File) -> ArtifactCorrupt:
    return corrupt(f"{path} has a wrong size or {expected.algorithm}")


def corrupt(what: str) -> ArtifactCorrupt:
    """The error for a chain that is damaged or inconsistent."""
    return ArtifactCorrupt(what, remedy="The chain cannot be restored to here; restore a backup before it.")
