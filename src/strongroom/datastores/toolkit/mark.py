"""A mark in a data directory that is not whole yet. A server starts on such data without complaint, and serves it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.system.directories import sync_directory, sync_tree
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

_NAME = "strongroom_incomplete"


@contextmanager
def unfinished(directory: Path) -> Iterator[None]:
    """Mark the directory while it is worked on. The mark goes when all is well and durable; after an error it stays."""
    mark = directory / _NAME
    write_file(mark, "A restore works here, or died here. Do not start a server on it.\n", find_owner(directory))
    yield
    sync_tree(directory)
    mark.unlink()
    sync_directory(directory)


def is_unfinished(directory: Path) -> bool:
    """The mark is there."""
    return (directory / _NAME).exists()
