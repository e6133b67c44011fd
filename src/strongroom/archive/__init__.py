"""Log archives: the log of a database server as immutable segments, chained by hash, each with an index of its content.

It knows no database: positions are text that the datastore defines, and so are the ``details`` of series and segments.
"""

from strongroom.archive.begin import begin_series
from strongroom.archive.contents import Contents, load_contents, load_log
from strongroom.archive.deletion import delete_series
from strongroom.archive.load import (
    Head,
    Stored,
    list_records,
    list_series,
    load_covered,
    load_head,
    load_segment,
    load_series,
    load_trimmed,
)
from strongroom.archive.location import LogLocation, SeriesLocation
from strongroom.archive.reader import SegmentReader
from strongroom.archive.records import (
    Activity,
    Covered,
    Event,
    LogSegment,
    Mark,
    Precedes,
    Seam,
    SegmentIndex,
    Series,
    Span,
    Trimmed,
)
from strongroom.archive.stretch import Stretch
from strongroom.archive.target import Target
from strongroom.archive.trimming import Removed, delete_log, remove_trimmed, trim_log
from strongroom.archive.window import Gap, Interval, Piece, Window, find_window
from strongroom.archive.writer import LIMIT, MAX_AGE, SegmentWriter

__all__ = [
    "LIMIT",
    "MAX_AGE",
    "Activity",
    "Contents",
    "Covered",
    "Event",
    "Gap",
    "Head",
    "Interval",
    "LogLocation",
    "LogSegment",
    "Mark",
    "Piece",
    "Precedes",
    "Removed",
    "Seam",
    "SegmentIndex",
    "SegmentReader",
    "SegmentWriter",
    "Series",
    "SeriesLocation",
    "Span",
    "Stored",
    "Stretch",
    "Target",
    "Trimmed",
    "Window",
    "begin_series",
    "delete_log",
    "delete_series",
    "find_window",
    "list_records",
    "list_series",
    "load_contents",
    "load_covered",
    "load_head",
    "load_log",
    "load_segment",
    "load_series",
    "load_trimmed",
    "remove_trimmed",
    "trim_log",
]
