"""What the records of a log archive of MariaDB or MySQL say that only these databases understand."""

from __future__ import annotations

from pydantic import Field, ValidationError

from strongroom.archive import LogSegment
from strongroom.datastores.innodb.binlog.pieces import Position
from strongroom.datastores.innodb.binlog.tail import Tail
from strongroom.datastores.protocol.strict import Strict
from strongroom.errors import ArtifactCorrupt

LONGEST_GTIDS = 32 * 1024


class SegmentDetails(Strict):
    """What a segment says beside its bytes: which part of which file they are, and how to continue after them."""

    file: str = Field(max_length=512)
    begin: int = Field(ge=0, description="Offset of its first byte in the file.")
    start: str = Field(
        max_length=600, description="Position from which its transactions are read: before its first byte if one began there."
    )
    created: int = Field(
        ge=0, description="When the server began the file, in seconds. Names are used again after a RESET MASTER."
    )
    has_checksums: bool = Field(description="Whether the events of the file end with a checksum.")
    tail: Tail = Field(description="The last event that ends in it or before it.")
    resume: int = Field(ge=4, description="Where to read again: after the last event, or at the transaction that has not ended.")
    time: int = Field(ge=0, description="Of the last transaction up to there, in microseconds; later ones are never earlier.")
    gtids: str = Field("", max_length=LONGEST_GTIDS, description="All GTIDs up to there; empty if they are too many.")

    @classmethod
    def of(cls, segment: LogSegment) -> SegmentDetails:
        """Those of a stored segment. Raises ArtifactCorrupt."""
        try:
            return cls.model_validate_json(segment.details)
        except ValidationError as error:
            raise ArtifactCorrupt(f"log segment {segment.number} is not one of a binary log") from error

    @property
    def first(self) -> Position:
        """Where its transactions are read from. Raises ArtifactCorrupt."""
        try:
            return Position.parse(self.start)
        except ValueError as error:
            raise ArtifactCorrupt(f"a log segment of {self.file} does not say where its transactions begin") from error

    @property
    def boundary(self) -> Position:
        """The last position in the segment, or before it, at which every transaction has ended."""
        return Position(self.file, self.resume)
