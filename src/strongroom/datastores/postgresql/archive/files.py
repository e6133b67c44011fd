"""WAL files from archived segments: exactly those of the server, on which its own tools work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from strongroom.archive import LogSegment, SegmentReader
from strongroom.datastores.postgresql.files.lsn import list_segments, parse_lsn
from strongroom.errors import ArtifactCorrupt


def assemble_files(
    reader: SegmentReader, segments: Iterable[LogSegment], timeline: int, size: int
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each file that begins in ``segments``, which follow each other.

    The last file may be incomplete: a server accepts it only with zeroes up to its full size. Raises as ``SegmentReader.read``.
    """
    data, start = bytearray(), -1
    for segment in segments:
        raw, begin = reader.read(segment), parse_lsn(segment.begin)
        if begin + len(raw) != parse_lsn(segment.end):
            raise ArtifactCorrupt(f"log segment {segment.number} has {len(raw)} bytes, from {segment.begin} to {segment.end}")
        if start < 0:
            skipped = -begin % size
            raw, start = raw[skipped:], begin + skipped
        data += raw
        while len(data) >= size:
            yield list_segments(timeline, start, start + 1, size)[0], bytes(data[:size])
            del data[:size]
            start += size
    if data:
        yield list_segments(timeline, start, start + 1, size)[0], bytes(data)
