"""What a policy demands: when backups are taken, how long chains become, what is kept, how old the newest backup may be."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationInfo, model_validator

from strongroom.errors import InvalidRequest
from strongroom.protection.clock import find_zone, require_zone
from strongroom.protection.durations import format_duration, parse_duration
from strongroom.protection.retention import Rules
from strongroom.protection.runs import Plan, cover_day, parse_blackout
from strongroom.protection.schedule import Schedule, parse_schedule

SHORTEST_LOSS = timedelta(seconds=10)
"""The state of log archives is read this often."""
MOST_LINKS = 1000
"""A longer chain is never built."""
STORED = "stored"
"""Context to read settings that were valid when they were stored; their time zone may not exist any more."""
_SEGMENTS_OF_LOSS = 6
_SHORTEST_SEGMENT = timedelta(seconds=1)
_LONGEST_SEGMENT = timedelta(seconds=30)
_EXAMPLE = datetime(2026, 1, 1, tzinfo=UTC)


def _read_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if value == 0 and not isinstance(value, bool):  # as for counts, 0 means none
        return timedelta(0)
    if not isinstance(value, str):
        raise ValueError("must be a duration such as 7d or 1d12h")
    return parse_duration(value)


Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration, json_schema_input_type=str),
    PlainSerializer(format_duration, return_type=str),
    Field(ge=timedelta(0)),
]
"""A duration, in JSON as people write it: ``7d``, ``26h``."""
Count = Annotated[int, Field(strict=True, ge=0, le=100_000)]


class PolicySpec(BaseModel):
    """The settings of a policy. Raises InvalidRequest for schedules, zones and durations that cannot be read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    full: str = Field("", max_length=255, description='When full backups are taken: "sun 02:00", "0 2 * * 0"; empty: never.')
    incremental: str = Field(
        "", max_length=255, description='When incrementals are taken: "daily 02:00", "every 6h"; empty: never.'
    )
    time_zone: str = Field(
        "UTC", max_length=255, description="IANA name of the zone of schedules, blackouts and calendar periods."
    )
    spread: Duration = Field(
        timedelta(minutes=5), description="Backups of different databases with one due time begin within this time."
    )
    not_between: tuple[str, ...] = Field((), max_length=10, description="Times of day in which no backup begins: 08:00-18:00.")
    max_chain: int = Field(
        0,
        strict=True,
        ge=0,
        le=MOST_LINKS,
        description="A chain has at most this many backups, then a full is taken; 0: no limit.",
    )
    max_chain_age: Duration = Field(
        timedelta(0), description="A full is taken if the one at the base of the chain is older; 0s: no limit."
    )
    attempts: int = Field(3, strict=True, ge=1, le=10, description="How often a backup is tried before an incident is opened.")
    keep_last: Count = Field(0, description="Keep this many of the newest backups.")
    keep_within: Duration = Field(timedelta(0), description="Keep backups that are less than this much older than the newest.")
    keep_hourly: Count = Field(0, description="Keep one backup for each of this many hours.")
    keep_daily: Count = Field(0, description="Keep one backup for each of this many days.")
    keep_weekly: Count = Field(0, description="Keep one backup for each of this many weeks.")
    keep_monthly: Count = Field(0, description="Keep one backup for each of this many months.")
    keep_yearly: Count = Field(0, description="Keep one backup for each of this many years.")
    max_age: Duration = Field(
        timedelta(0), description="A database is late if its newest backup is older; 0s: derived from the schedules."
    )
    max_proof_age: Duration = Field(
        timedelta(0),
        description="A database is unverified if its newest verified backup is older; 0s: any verified backup counts.",
    )
    log_archive: bool = Field(
        False, strict=True, description="Archive the log of instances, so that they can be restored to any moment."
    )
    max_loss: Duration = Field(
        timedelta(minutes=5),
        description="With a log archive: an incident opens when more than this time could be lost; at least 10s.",
    )

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        if info.context is STORED:
            return self
        require_zone(self.time_zone)
        if cover_day(self.plan(_EXAMPLE).blackouts):
            raise InvalidRequest(
                "the blackouts cover the whole day, so no backup could begin", remedy="Write shorter ones, or pause the policy."
            )
        self.rules.require_any()
        if self.spread > timedelta(hours=12):
            raise InvalidRequest("the spread is longer than 12 hours", remedy="Write a shorter one, for example 5m or 1h.")
        if self.max_loss < SHORTEST_LOSS:
            raise InvalidRequest(
                f"max_loss is shorter than {format_duration(SHORTEST_LOSS)}", remedy="Write a longer time, for example 30s or 5m."
            )
        return self

    def plan(self, anchor: datetime) -> Plan:
        """The schedules. ``anchor``: what intervals count from."""
        return _read_plan(self, anchor)

    @property
    def rules(self) -> Rules:
        """What is kept."""
        return Rules(
            last=self.keep_last,
            within=self.keep_within,
            hourly=self.keep_hourly,
            daily=self.keep_daily,
            weekly=self.keep_weekly,
            monthly=self.keep_monthly,
            yearly=self.keep_yearly,
        )

    @property
    def segment_age(self) -> float:
        """Seconds that the log may wait before it is stored: much less than may be lost, so that a slow store is no incident."""
        return min(max(self.max_loss / _SEGMENTS_OF_LOSS, _SHORTEST_SEGMENT), _LONGEST_SEGMENT).total_seconds()

    @property
    def chain_length(self) -> int:
        """How many backups a chain has, at most or as the schedules make it."""
        return self.max_chain or _count_links(self)


@lru_cache(1024)
def _read_plan(spec: PolicySpec, anchor: datetime) -> Plan:
    find_zone(spec.time_zone)

    def read(text: str) -> Schedule | None:
        return parse_schedule(text, zone=spec.time_zone, anchor=anchor) if text.strip() else None

    return Plan(
        full=read(spec.full),
        incremental=read(spec.incremental),
        spread=spec.spread,
        blackouts=tuple(parse_blackout(text, spec.time_zone) for text in spec.not_between),
    )


@lru_cache(1024)
def _count_links(spec: PolicySpec) -> int:
    """Due times from one full to the next."""
    plan = spec.plan(_EXAMPLE)
    if plan.full is None:
        return MOST_LINKS
    start = plan.full.next_after(_EXAMPLE)
    end, at, links = plan.full.next_after(start), start, 1
    while links < MOST_LINKS and (found := plan.next_after(at)) is not None and found[0] < end:
        at, links = found[0], links + 1
    return links
