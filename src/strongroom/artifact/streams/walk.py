"""What follows a stream as it passes by: proves that it is whole, and finds where in it each file is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Literal, Protocol

Format = Literal["mbstream", "tar", "plain"]
"""Of a stream: two that hold files, and bytes that are nothing but bytes."""

Ranges = list[tuple[int, int]]
"""Parts of a stream, (offset, length) in bytes."""


class Tap(Protocol):
    """Looks at the content of the files of a stream on their way. Made anew for each stream."""

    def saw(self, path: str, offset: int, data: memoryview) -> None:
        """The next piece of the file ``path``, at ``offset`` in it; an empty file is one piece without content."""

    def take(self) -> Callable[[], None] | None:
        """What is still to be done with all pieces since the last call: in any thread, side by side with other such work.

        The content of the pieces is there until then, and not longer.
        """


class Walk(Protocol):
    """Made anew for each stream. What it cannot be raises ArtifactCorrupt."""

    tap: Tap | None
    """Who looks on. Only the walk of a tar has something to tell."""

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
