"""What follows a stream as it passes by: proves that it is whole, and finds where in it each file is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, Protocol

Format = Literal["mbstream", "tar", "plain"]
"""Of a stream: two that hold files, and bytes that are nothing but bytes."""

Ranges = list[tuple[int, int]]
"""Parts of a stream, (offset, length) in bytes."""


class Tap(Protocol):
    """Inspects the contents of the files of a stream. One per stream."""

    def saw(self, path: str, offset: int, data: memoryview) -> None:
        """The next piece of the file ``path``, at ``offset`` in it; an empty file is one piece without content."""

    def take(self) -> Callable[[], None] | None:
        """Return the remaining work on all pieces since the last call, which can run in any thread and in parallel.

        The content of the pieces is valid until it is done.
        """


class Walk(Protocol):
    """Parses a stream. One per stream. Raises ArtifactCorrupt if it is malformed."""

    tap: Tap | None
    """The tap, which only the walk of a tar calls."""

    @property
    def files(self) -> int:
        """How many files the stream holds."""

    @property
    def kept(self) -> Mapping[str, bytes | bytearray]:
        """The content of those small files that were to be kept."""

    def feed(self, data: bytes | memoryview) -> None:
        """The next piece of the stream, of any size."""

    def finish(self) -> None:
        """The stream has ended."""

    def ranges(self) -> Iterator[tuple[str, Ranges]]:
        """Each file with the ranges of the stream that make a stream of this file alone."""
