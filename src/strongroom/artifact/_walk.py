"""What follows a stream as it passes by: proves that it is whole, and finds where in it each file is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, Protocol

Format = Literal["mbstream", "tar", "plain"]
"""Of a stream: two that hold files, and bytes that are nothing but bytes."""

Ranges = list[tuple[int, int]]
"""Parts of a stream, (offset, length) in bytes."""


class Walk(Protocol):
    """Made anew for each stream. What it cannot be raises ArtifactCorrupt."""

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
