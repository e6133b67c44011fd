"""The records of a log archive: series, segments and their indexes. Those read from a store are parsed as untrusted input.

Times are microseconds since 1970, UTC. Positions are text that only the database understands: an LSN, a set of GTIDs, a file and
an offset. The archive compares them for equality, and orders them with the ``Precedes`` of the database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import FailFast, Field, model_validator

from strongroom.archive.location import MOST_SEGMENTS, MOST_SERIES, SeriesLocation
from strongroom.artifact.records.manifest import Sha256
from strongroom.artifact.records.part import Part

FORMAT: Literal[1] = 1
MAX_RAW = 64 * 1024**2
"""Bytes of the log in the largest segment that is read."""
MAX_RECORD = 4 * 1024**2
MAX_INDEX = 16 * 1024**2
MOST_EVENTS = 10_000
MOST_TEXT = 1000
_MOST_DETAILS = 64 * 1024

Position = Annotated[str, Field(min_length=1, max_length=16 * 1024)]
Time = Annotated[int, Field(ge=-(2**62), lt=2**62)]
Precedes = Callable[[str, str], bool]
"""Whether the first position is before the second, or equal. Raises ValueError for text that is not a position."""


class Seam(Part):
    """Proof that a series continues another one: both contain ``position``, and the log up to it is the same history."""

    series: int = Field(ge=0, lt=MOST_SERIES)
    position: Position


class Series(Part):
    """One uninterrupted log of one server. A restore, a failover, a loss of log or a new format begins another series."""

    format: Literal[1] = FORMAT
    location: SeriesLocation
    datastore: str = Field(max_length=64)
    server_version: str = Field("", max_length=200)
    identity: str = Field(max_length=200, description="PostgreSQL: system identifier and timeline. Otherwise the server's UUID.")
    lineage: str = Field("", max_length=64, description="Random id of the data directory.")
    began: str = Field(
        pattern=r"^[a-z][a-z-]{0,39}$",
        description="Why it began: first, timeline, restore, lost (the server deleted log that was not read), identity, format.",
    )
    reason: str = Field("", max_length=MOST_TEXT, description="The cause as a sentence, for people.")
    begin: Position
    started: Time
    continues: Seam | None = Field(None, description="Without it, there is a gap before this series.")
    writer: str = Field("", max_length=64, description="Random id of the writer, so that two writers never write equal records.")
    details: str = Field("", max_length=_MOST_DETAILS, description="What only the database understands.")


class Event(Part):
    """Something that people look for in a log: a change of the schema, a restore point, a large transaction."""

    kind: str = Field(pattern=r"^[a-z][a-z-]{0,39}$", description="ddl, drop, truncate, restore-point, large, local.")
    begin: Position = Field(description="The last position without it.")
    end: Position = Field(description="The first position with it.")
    time: Time | None = None
    text: str = Field("", max_length=MOST_TEXT, description="The statement or the name of the restore point, shortened.")
    objects: Annotated[tuple[Annotated[str, Field(max_length=MOST_TEXT)], ...], FailFast()] = Field(
        (), max_length=1000, description="Tables, or files of relations."
    )


class Mark(Part):
    """Where the log stands after a number of transactions of the segment."""

    position: Position
    time: Time
    transactions: int = Field(ge=0)
    key: str = Field("", max_length=200, description="The same on every node of a cluster.")


class Activity(Part):
    """Changes of one table in the segment."""

    table: str = Field(max_length=MOST_TEXT)
    kind: str = Field(pattern=r"^[a-z][a-z-]{0,39}$", description="insert, update, delete.")
    bytes: int = Field(ge=0)


class SegmentIndex(Part):
    """What a segment contains. Statements may contain secrets, so it is sealed like the log itself."""

    events: Annotated[tuple[Event, ...], FailFast()] = Field((), max_length=MOST_EVENTS)
    marks: Annotated[tuple[Mark, ...], FailFast()] = Field((), max_length=MOST_EVENTS)
    activity: Annotated[tuple[Activity, ...], FailFast()] = Field((), max_length=MOST_EVENTS)
    times: str = Field(
        "", max_length=MAX_RECORD, description="Of each transaction, in order; see `times`. Empty if the database needs none."
    )
    omitted: int = Field(0, ge=0, description="Entries that were left out to limit the size.")


class Span(Part):
    """What the archive knows of a piece of the log without reading it."""

    end: Position
    first_time: Time | None = Field(None, description="Lowest time of a transaction.")
    last_time: Time | None = Field(None, description="Highest time of a transaction; they are not always in order.")
    transactions: int = Field(0, ge=0)
    covered_until: Time | None = Field(None, description="At this time, the server had no log after `end`.")
    details: str = Field("", max_length=_MOST_DETAILS, description="What only the database understands. It is not encrypted.")

    @model_validator(mode="after")
    def _check_times(self) -> Span:
        if (self.first_time is None) != (self.last_time is None) or (self.first_time or 0) > (self.last_time or 0):
            raise ValueError("the times are not in order")
        return self


class LogSegment(Span):
    """An immutable piece of a series. Its record is written after its bytes; ``previous`` chains the records."""

    format: Literal[1] = FORMAT
    series: SeriesLocation
    number: int = Field(ge=0, lt=MOST_SEGMENTS)
    begin: Position
    raw: int = Field(ge=1, le=MAX_RAW)
    stored: int = Field(ge=1)
    sha256: str = Sha256
    previous: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the record of the segment before, or of the series.")
    codec: Literal["zstd", "gzip"]
    encrypted: bool = False
    written: Time = Field(description="When it was cut, by the clock of the writer.")
    writer: str = Field("", max_length=64)
    index: str = Field("", max_length=MAX_RECORD, description="A SegmentIndex: JSON, zstd, sealed like the bytes, base64.")

    @property
    def data_key(self) -> str:
        """Key of its bytes."""
        return self.series.data_of(self.number, self.sha256)


class Covered(Part):
    """Until when an idle log is complete: at ``time`` the server had no log after the end of segment ``number``.

    It applies only to the segment whose record has the hash ``record``; -1 is the beginning of the series.
    """

    format: Literal[1] = FORMAT
    number: int = Field(ge=-1, lt=MOST_SEGMENTS)
    record: str = Sha256
    time: Time


class Trimmed(Part):
    """Where an archive begins since retention has removed what was before: with segment ``first`` of ``series``."""

    format: Literal[1] = FORMAT
    series: int = Field(ge=0, lt=MOST_SERIES)
    first: int = Field(ge=0, lt=MOST_SEGMENTS)
    begin: Position = Field(description="Where the segment begins.")
    previous: str = Field(pattern=r"^[0-9a-f]{64}$", description="Hash of the record before it, as in the segment.")
    at: Time = Field(description="When this was decided.")
