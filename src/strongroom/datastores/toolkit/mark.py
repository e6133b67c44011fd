"""A mark in a data directory that is not complete yet. A server would start on such data without an error, and serve it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from strongroom.system.directories import sync_directory, sync_tree
from strongroom.system.files import write_file
from strongroom.system.users import find_owner

_NAME = "strongroom_incomplete"


@contextmanager
def mark_unfinished(directory: Path, *, keep: bool = False) -> Iterator[None]:
    """Mark the directory during the context. The mark is removed when everything is durable; after an error it remains.

    ``keep``: it remains in any case, because another step completes the directory.
    """
    mark = directory / _NAME
    write_file(mark, "A restore works here, or died here. Do not start a server on it.\n", find_owner(directory))
    yield
    if keep:
        return
    sync_tree(directory)
    mark.unlink()
    sync_directory(directory)


def is_unfinished(directory: Path) -> bool:
    """Whether the directory has the mark."""
    return (directory / _NAME).exists()
