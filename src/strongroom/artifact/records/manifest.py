"""The manifest: JSON, written last, contains everything a restore needs. Parsed as untrusted input.

``docs/artifact.md`` describes the format, to read it without Strongroom.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Literal

from pydantic import AwareDatetime, FailFast, Field, ValidationError, model_validator

from strongroom.artifact.records.location import MOST_ATTEMPTS, Location
from strongroom.artifact.records.part import Part
from strongroom.artifact.records.profile import Profile, Witness
from strongroom.artifact.streams.walk import Format
from strongroom.errors import ManifestInvalid

FORMAT: Literal[1] = 1
MAX_BYTES = 64 * 1024**2
MAX_SEGMENTS = 500_000
"""16 TB at the default segment size; the maximum in a manifest of MAX_BYTES."""
_MOST_OTHERS = 500_000
"""Maximum number of values except those of segments: each takes much more memory than its text."""
_MOST_NAMES = 10_000
"""Maximum length of lists except segments, tables and truncated relations."""
LSN = r"^[0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8}$"
Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class Positions(Part):
    """Position of the backup in the server's history. Fields that do not apply are null."""

    from_lsn: int | None = Field(None, ge=0, description="InnoDB: first LSN of the stream (0 for a full).")
    to_lsn: int | None = Field(None, ge=0, description="InnoDB: checkpoint LSN; the next incremental starts here.")
    last_lsn: int | None = Field(None, ge=0, description="InnoDB: last LSN copied.")
    binlog_file: str | None = None
    binlog_position: int | None = Field(None, ge=0)
    binlog_created: int | None = Field(
        None, ge=0, description="When the server began that log, in seconds since 1970: its name may have been used before."
    )
    gtid: str | None = Field(None, description="MySQL: all of these are in the backup; the next incremental begins after them.")
    gtid_upper: str | None = Field(None, description="MySQL, a full: others than these are not in it.")
    binlog_upper: str | None = Field(
        None,
        max_length=600,
        description="MariaDB; MySQL, a full: what is in the binary log after this (FILE:OFFSET) is not in it.",
    )
    gtid_from: str | None = Field(None, description="MySQL, an incremental: `gtid` of its parent.")
    binlog_from: str | None = Field(None, description="MySQL, an incremental without GTIDs: the log in which its parent ends.")
    server_uuid: str | None = Field(
        None, pattern=r"^[0-9a-f-]{36}$", description="MySQL: id of the server. MariaDB has none: `lineage` as a UUID."
    )
    galera: str | None = Field(None, description="uuid:seqno of the cluster.")
    wal_start: str | None = Field(None, pattern=LSN, description="PostgreSQL: start WAL location.")
    wal_stop: str | None = Field(None, pattern=LSN, description="PostgreSQL: stop WAL location.")
    timeline: int | None = Field(None, ge=1)
    system_identifier: str | None = Field(None, pattern=r"^\d{1,20}$", description="PostgreSQL: id of the database cluster.")
    wal_from: str | None = Field(
        None, pattern=LSN, description="PostgreSQL, an incremental that is the WAL since its parent: where the parent ends."
    )
    blocks_from: str | None = Field(
        None, pattern=LSN, description="PostgreSQL, an incremental that is changed blocks: start WAL location of its parent."
    )
    truncated: dict[str, int] | None = Field(
        None,
        description="PostgreSQL, changed blocks: blocks left of each relation (tablespace/database/file/fork) that was cut.",
    )
    backup_manifest_sha256: str | None = Field(
        None, pattern=r"^[0-9a-f]{64}$", description="PostgreSQL: of the tool's own manifest."
    )

    @property
    def reached(self) -> int:
        """The position as a number; 0 if unknown."""
        high, _, low = (self.wal_stop or "0/0").partition("/")
        log = re.search(r"\.(\d{6,18})$", self.binlog_file or "")
        in_log = int(log[1]) << 32 | (self.binlog_position or 0) if log else 0
        return self.to_lsn or (int(high, 16) << 32 | int(low, 16)) or in_log


class Parent(Part):
    """The parent of an incremental."""

    location: Location
    manifest_sha256: str = Sha256
    token: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{32}$",
        description="Token of the parent's witness, which the server showed before this backup was read.",
    )


class Index(Part):
    """The index of the stream: a zstd-compressed JSON object of its own (age on top when the artifact is encrypted)."""

    stored: int = Field(ge=0)
    sha256: str = Sha256


class Collation(Part):
    """A collation of the database. With another version, indexes may be wrong."""

    provider: Literal["libc", "icu", "builtin"]
    locale: str = Field(pattern=r"^[^\x00]{0,200}$")
    version: str | None = None


class DamagedPage(Part):
    """A page of the database that was damaged when it was read."""

    path: str
    block: int = Field(ge=0, description="Number of the page in its relation.")


class Pages(Part):
    """The result of checking the database's page checksums during the backup."""

    checked: int = Field(ge=0)
    damaged: int = Field(ge=0)
    named: Annotated[list[DamagedPage], FailFast()] = Field(
        default_factory=list, max_length=1000, description="The first of the damaged ones."
    )

    @property
    def damage(self) -> str:
        """A description of the damaged pages; empty if there are none."""
        named = [f"block {page.block} of {page.path}" for page in self.named[:10]]
        more = ["…"] if self.damaged > len(named) else []
        what = "1 damaged page" if self.damaged == 1 else f"{self.damaged} damaged pages"
        return f"{what}: {', '.join(named + more)}" if self.damaged else ""


class Segment(Part):
    """One segment: ``raw`` bytes of the stream, ``stored`` bytes in the store, SHA-256 of what is stored."""

    raw: int = Field(ge=1)
    stored: int = Field(ge=1)
    sha256: str = Sha256


class Codec(Part):
    """How segments are compressed: each is one zstd frame or one gzip member."""

    name: Literal["zstd", "gzip"]
    level: int


class Manifest(Part):
    """One backup. ``parse`` reads a stored one, ``dump`` writes it."""

    format: Literal[1] = FORMAT
    id: str
    container: str
    kind: Literal["full", "incremental"]
    name: str = ""
    description: str | None = None
    project: str = ""
    instance_id: str | None = None
    instance_name: str = ""
    datastore: str
    datastore_version: str = Field(description="The series: 10.11.")
    server_version: str = Field(description="The full version: 10.11.19.")
    tool: str
    tool_version: str
    parent: Parent | None = None
    chain: str = Field(description="Id of the full backup of the chain; its own id for a full backup.")
    lineage: str = Field(description="Random id of the data directory that was read.")
    host: str = ""
    stream: Format
    index: Index | None = None
    positions: Positions
    collations: Annotated[list[Collation], FailFast()] = Field(
        default_factory=list, description="Those of the databases, where they depend on the host."
    )
    pages: Pages | None = Field(None, description="null where the database has no checksums of its pages.")
    profile: Profile | None = Field(None, description="What a restore depends on at the source; null in older backups.")
    witness: Witness | None = Field(
        None, description="Proof for the next incremental that the server still has this backup in its past; null: there is none."
    )
    codec: Codec
    recipients: list[str] | None = Field(None, description="age public keys; null when the artifact is not encrypted.")
    attempt: int | None = Field(
        None, ge=1, le=MOST_ATTEMPTS, description="Number in the names of segments and index; null: they have none."
    )
    segment_size: int = Field(ge=1)
    segments: Annotated[list[Segment], FailFast()] = Field(max_length=MAX_SEGMENTS)
    raw_size: int = Field(ge=0, description="Bytes of the stream.")
    stored_size: int = Field(ge=0, description="Bytes of all segments in the store.")
    data_size: int = Field(ge=0, description="Bytes of the data directory that was backed up.")
    started: AwareDatetime
    finished: AwareDatetime

    @property
    def location(self) -> Location:
        """The location in the manifest."""
        return Location(container=self.container, id=self.id)

    def segment_key(self, number: int) -> str:
        """Key of a segment."""
        return self.location.segment(number, self.attempt or 0)

    @property
    def index_key(self) -> str:
        """Key of the index, if there is one."""
        return self.location.index_of(self.attempt or 0)

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        if sum(s.raw for s in self.segments) != self.raw_size or sum(s.stored for s in self.segments) != self.stored_size:
            raise ValueError("sizes of the segments do not add up to the totals")
        if any(s.raw > self.segment_size for s in self.segments):
            raise ValueError("a segment is larger than segment_size")
        if (self.kind == "incremental") != (self.parent is not None):
            raise ValueError("an incremental must have a parent, and a full backup none")
        if self.kind == "full" and self.chain != self.id:
            raise ValueError("the chain of a full backup must begin with itself")
        return self

    def dump(self) -> bytes:
        """The stored bytes: readable JSON with one line per segment."""
        head = self.model_dump_json(indent=1, exclude_none=True, exclude={"segments"}).removesuffix("\n}")
        lines = ",\n  ".join(segment.model_dump_json() for segment in self.segments)
        return f'{head},\n "segments": [\n  {lines}\n ]\n}}\n'.encode()

    @classmethod
    def parse(cls, data: bytes, location: Location) -> Manifest:
        """Parse the manifest at ``location``. Raises ManifestInvalid if it is invalid or describes another artifact."""
        try:
            manifest = cls.model_validate(_load(data))
            if manifest.location != location:
                raise ValueError(f"it describes {manifest.container}/{manifest.id}")
        except (ValidationError, ValueError, RecursionError) as error:
            raise ManifestInvalid(
                f"manifest {location.manifest} is not valid: {_brief(error)}",
                remedy="The object was changed after it was written; restore from another backup.",
            ) from error
        return manifest


def _load(data: bytes) -> object:
    """Parse the JSON if its size is possible for a manifest, because validation takes a hundred times its memory.

    Raises ValueError, RecursionError.
    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"it is too large ({len(data)} bytes)")
    parts, values = data.count(b"{") + data.count(b"["), data.count(b",")
    if parts > MAX_SEGMENTS + _MOST_OTHERS or values > 3 * MAX_SEGMENTS + _MOST_OTHERS:
        raise ValueError("it has too many values")
    found = json.loads(data)
    if isinstance(found, dict):
        _require_modest(found)
    return found


def _require_modest(found: dict[str, object]) -> None:
    """Raise ValueError for content that would cause millions of validation errors."""
    waiting: list[object] = [value for name, value in found.items() if name != "segments"]
    positions = found.get("positions")
    truncated = positions.get("truncated") if isinstance(positions, dict) else None
    strange = 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if len(value) > _MOST_NAMES and not (value is truncated and all(type(n) is int for n in truncated.values())):
                raise ValueError("it has too many keys")
            waiting.extend(each for each in value.values() if isinstance(each, dict | list))
        elif isinstance(value, list):
            strange += sum(not isinstance(each, str) for each in value)
            if strange > _MOST_NAMES:
                raise ValueError("it has too long lists")
            waiting.extend(each for each in value if isinstance(each, dict | list))


_MOST_ERRORS = 1000


def _brief(error: Exception) -> str:
    if isinstance(error, ValidationError):
        if error.error_count() > _MOST_ERRORS:
            return f"{error.error_count()} values are wrong"
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(p) for p in first['loc'])}: {first['msg']}".lstrip(": ")
    return str(error)
