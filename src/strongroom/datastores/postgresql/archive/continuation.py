"""Where a receiver continues: in the last series of the store, in a series that continues it, or after a gap."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import Field, ValidationError

from strongroom.archive import Head, LogSegment, Seam, Series
from strongroom.artifact.records.part import Part
from strongroom.datastores.postgresql.archive.replication import Identity
from strongroom.datastores.postgresql.files.lsn import format_lsn, parse_lsn
from strongroom.datastores.postgresql.files.wal import History, Unfit
from strongroom.errors import ArtifactCorrupt, ServerFailed


class SeriesDetails(Part):
    """What a series is about: one timeline of one system."""

    system: int = Field(ge=0, lt=2**64)
    timeline: int = Field(ge=1, lt=2**32)
    file_size: int = Field(ge=1 << 20, le=1 << 30)
    history: str = Field("", max_length=64 * 1024, description="The history file of the timeline.")

    @classmethod
    def of(cls, series: Series) -> SeriesDetails:
        """Those of a stored series. Raises ArtifactCorrupt."""
        try:
            return cls.model_validate_json(series.details)
        except ValidationError as error:
            raise ArtifactCorrupt(f"{series.location.series} is not the record of a series of PostgreSQL") from error


class SegmentDetails(Part):
    """Proves on resumption that the server still has the WAL that was archived."""

    file_sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of the WAL file from its beginning to the segment's end.")

    @classmethod
    def of(cls, segment: LogSegment) -> SegmentDetails:
        """Those of a stored segment. Raises ArtifactCorrupt."""
        try:
            return cls.model_validate_json(segment.details)
        except ValidationError as error:
            raise ArtifactCorrupt(f"log segment {segment.number} is not one of PostgreSQL") from error


@dataclass(frozen=True, slots=True)
class Continue:
    """Append to the series, which is of ``timeline``."""

    timeline: int


@dataclass(frozen=True, slots=True)
class Follow:
    """Begin a series for the next timeline: it continues the last one at ``position``."""

    timeline: int
    position: int
    seam: Seam


@dataclass(frozen=True, slots=True)
class Begin:
    """Begin a series after a gap."""

    began: str
    reason: str


def plan_continuation(head: Head | None, identity: Identity, history: History, text: str) -> Continue | Follow | Begin:
    """What to do, by the end of the last series and the ``history`` of the server's timeline, whose file is ``text``.

    Raises ArtifactCorrupt, or ServerFailed if the server is a standby that lags.
    """
    if head is None:
        return Begin("first", "the log archive was started")
    details = SeriesDetails.of(head.series)
    position = parse_lsn(head.position)
    if details.system != identity.system:
        return Begin("identity", f"the server has other data: its system identifier is {identity.system}, not {details.system}")
    if details.timeline == identity.timeline:
        if details.history != text:
            return Begin("restore", f"timeline {identity.timeline} of the server has another history than the archived one")
        if position > identity.position and identity.is_standby:
            raise ServerFailed(
                f"the standby is at {format_lsn(identity.position)}, before the end of the archive at {head.position}",
                remedy="The archive continues when the standby has received more.",
            )
        if position > identity.position:
            return Begin(
                "restore", f"the server is at {format_lsn(identity.position)}, before the end of the archive at {head.position}"
            )
        return Continue(details.timeline)
    try:
        left = history.left(details.timeline)
    except Unfit:
        left = None
    if left is None:
        return Begin("restore", f"timeline {identity.timeline} of the server does not come from timeline {details.timeline}")
    if position < left:
        return Continue(details.timeline)
    return Follow(find_next(history, details.timeline), left, Seam(series=head.series.location.number, position=format_lsn(left)))


def find_next(history: History, timeline: int) -> int:
    """The timeline that comes after an ancestor."""
    known = [ancestor for ancestor, _ in history.ancestors] + [history.current]
    return known[known.index(timeline) + 1]


def history_of(history: History, timeline: int) -> History:
    """The history of an ancestor, as far as its descendant knows it."""
    known = [ancestor for ancestor, _ in history.ancestors]
    return history if timeline == history.current else History(timeline, history.ancestors[: known.index(timeline)])
