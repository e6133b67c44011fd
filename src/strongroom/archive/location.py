"""Keys of a log archive, beside the backups of its database.

    CONTAINER/_logs/DATABASE/SOURCE/00000003/series.json                     the series, written first
    CONTAINER/_logs/DATABASE/SOURCE/00000003/index/0000000012.json           the record of a segment, with its index
    CONTAINER/_logs/DATABASE/SOURCE/00000003/data/0000000012-HASH            its bytes
    CONTAINER/_logs/DATABASE/SOURCE/00000003/covered.json                    until when an idle log is complete
    CONTAINER/_logs/DATABASE/SOURCE/trimmed.json                             where the archive begins, if retention removed a part

DATABASE is the id of an instance or of a cluster, SOURCE the id of the server that is archived: every node of a Galera cluster is
a source of its own. The name ``_logs`` cannot be the id of a backup.
"""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field

from strongroom.artifact.records.location import ID_PATTERN, LOGS
from strongroom.sections import CONTAINER_PATTERN

MOST_SERIES = 10**8
MOST_SEGMENTS = 10**10
_SERIES = re.compile(r"[0-9]{8}")
_RECORD = re.compile(r"([0-9]{10})\.json")
_NUMBERED = re.compile(r"(?:index|data)/([0-9]{10})(?:\.json|-[0-9a-f]{32})")
_PARTS = re.compile(r"series\.json|covered\.json|index/[0-9]{10}\.json|data/[0-9]{10}-[0-9a-f]{32}")


class LogLocation(BaseModel):
    """The log archive of one server."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    container: str = Field(pattern=CONTAINER_PATTERN)
    database: str = Field(pattern=ID_PATTERN, description="Id of the instance or cluster.")
    source: str = Field(pattern=ID_PATTERN, description="Id of the archived server.")

    @property
    def prefix(self) -> str:
        """The folder of all series."""
        return f"{self.container}/{LOGS}/{self.database}/{self.source}"

    @property
    def trimmed(self) -> str:
        """Key of the record of where the archive begins. It is replaced."""
        return f"{self.prefix}/trimmed.json"

    def series(self, number: int) -> SeriesLocation:
        """The location of a series."""
        return SeriesLocation(log=self, number=number)

    def parse_series(self, name: str) -> SeriesLocation | None:
        """The series whose folder has this name, or None if the name is not one of a series."""
        return self.series(int(name)) if _SERIES.fullmatch(name) else None


class SeriesLocation(BaseModel):
    """One series of a log archive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    log: LogLocation
    number: int = Field(ge=0, lt=MOST_SERIES)

    @property
    def prefix(self) -> str:
        """The folder that holds every object."""
        return f"{self.log.prefix}/{self.number:08d}"

    @property
    def series(self) -> str:
        """Key of the record of the series, written before its first segment."""
        return f"{self.prefix}/series.json"

    @property
    def covered(self) -> str:
        """Key of the record until when the log is complete. It is the only object that is replaced."""
        return f"{self.prefix}/covered.json"

    @property
    def records(self) -> str:
        """The folder of the records of segments."""
        return f"{self.prefix}/index"

    @property
    def data(self) -> str:
        """The folder of the bytes of segments."""
        return f"{self.prefix}/data"

    def record_of(self, number: int) -> str:
        """Key of the record of a segment: written after its bytes, by exactly one writer. Keys sort in the order of the log."""
        return f"{self.records}/{number:010d}.json"

    def data_of(self, number: int, sha256: str) -> str:
        """Key of the bytes of a segment. It contains their hash, so that two writers never write to the same key."""
        return f"{self.data}/{number:010d}-{sha256[:32]}"

    def parse_record(self, key: str) -> int | None:
        """The number of the segment whose record has this key, or None if it is not the key of a record of this series."""
        found = _RECORD.fullmatch(key.removeprefix(f"{self.records}/")) if key.startswith(f"{self.records}/") else None
        return int(found[1]) if found else None

    def parse_number(self, key: str) -> int | None:
        """The number of the segment to which the record or the bytes with this key belong, or None."""
        found = _NUMBERED.fullmatch(key.removeprefix(f"{self.prefix}/")) if key.startswith(f"{self.prefix}/") else None
        return int(found[1]) if found else None

    def parse_part(self, key: str) -> str | None:
        """The key of the object of this series with this key, or None. Deletion uses this: names in a listing are not trusted."""
        found = _PARTS.fullmatch(key.removeprefix(f"{self.prefix}/")) if key.startswith(f"{self.prefix}/") else None
        return f"{self.prefix}/{found[0]}" if found else None
