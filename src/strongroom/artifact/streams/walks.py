"""The walk for each format of a stream."""

from __future__ import annotations

from collections.abc import Collection

from strongroom.artifact.streams.mbstream import Mbstream
from strongroom.artifact.streams.tar import Tar
from strongroom.artifact.streams.walk import Format, Walk


def walk_of(stream: Format, keep: Collection[str] = (), keep_end: Collection[str] = ()) -> Walk | None:
    """None where there is nothing to follow. ``keep`` names files whose content is wanted; of ``keep_end`` only the end is."""
    match stream:
        case "mbstream":
            return Mbstream(keep, keep_end)
        case "tar":
            return Tar(keep)
        case "plain":
            return None
