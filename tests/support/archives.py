"""Log archives in a directory store, with positions that are plain numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from strongroom.archive import Head, LogLocation, Seam, SegmentIndex, SegmentWriter, Span, begin_series
from strongroom.sections import Artifact, Storage
from strongroom.storage import Store, open_store

LOG = LogLocation(container="box", database="shop", source="node1")
LOST = "the server deleted log that was not archived"


def open_directory(top: Path) -> Store:
    return open_store(Storage(), top)


def precedes(first: str, second: str) -> bool:
    return int(first) <= int(second)


def begin(
    store: Store, at: int = 0, *, seam: tuple[int, int] | None = None, started: int = 0, log: LogLocation = LOG, lineage: str = ""
) -> Head:
    """Another series. ``seam`` is the series that it continues and the position."""
    continues = Seam(series=seam[0], position=str(seam[1])) if seam else None
    return begin_series(
        store,
        log,
        datastore="test",
        identity="server",
        began="lost",
        reason=LOST,
        begin=str(at),
        started=started,
        lineage=lineage,
        continues=continues,
    )


def append(
    store: Store,
    head: Head,
    pieces: Iterable[bytes],
    settings: Artifact | None = None,
    recipients: Sequence[str] = (),
    index: SegmentIndex | None = None,
) -> Head:
    """One segment for each piece, with as many positions as bytes. The time of a transaction is its position in seconds."""
    with SegmentWriter(store, head, settings or Artifact(), recipients) as writer:
        at = int(head.position)
        for piece in pieces:
            first, at = at, at + len(piece)
            writer.append(piece)
            writer.cut(
                Span(end=str(at), transactions=1, first_time=first * 10**6, last_time=at * 10**6),
                index,
            )
            assert writer.wait(30)
        return writer.durable
