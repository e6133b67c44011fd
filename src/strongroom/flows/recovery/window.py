"""The recovery window of an instance: to which moments it can be restored, from which backups, and every gap with its cause."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field

from strongroom.archive import Gap, LogSegment
from strongroom.flows.recovery.past import Base, Part, Past, load_past
from strongroom.flows.recovery.times import format_time, round_inwards
from strongroom.flows.site import Site


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WindowBase(_Model):
    """A backup to which the log is applied."""

    id: str
    name: str
    kind: str
    finished: str


class WindowInterval(_Model):
    """Every moment from ``begin`` to ``end`` can be restored."""

    begin: str = Field(
        description="When its first backup was complete, or when a restore in place began it; in whole seconds, like `end`."
    )
    end: str = Field(description="Until when its log is complete.")
    first_position: str
    last_position: str
    series: list[int] = Field(description="The series of the log archive that it consists of.")
    first_base: WindowBase
    newest_base: WindowBase
    bases: int = Field(description="How many good backups are in it.")
    segments: int
    raw_size: int
    stored_size: int


class WindowGap(_Model):
    """No moment after ``begin`` and before ``end`` can be restored."""

    begin: str | None = Field(description="null: nothing before it is known.")
    end: str | None = Field(description="When the first backup after it was complete; null: there is none yet.")
    after: str | None = Field(description="The last position before it.")
    before: str | None = Field(description="The first position after it.")
    reason: str
    remedy: str


class RecoveryWindow(_Model):
    """What can be restored of an instance."""

    instance_id: str
    instance_name: str
    datastore: str
    intervals: list[WindowInterval] = Field(description="Oldest first.")
    gaps: list[WindowGap]
    covered_until: str | None = Field(description="Until when the newest part of the log is complete.")
    series: int = Field(description="Number of series in the log archive.")
    segments: int
    raw_size: int = Field(description="Bytes of the log.")
    stored_size: int = Field(description="Bytes that it takes in the store.")


def show_window(site: Site, project: str, instance: str) -> RecoveryWindow:
    """The window of an instance, from what the store holds. Not on the event loop.

    Raises NotFound, Conflict (there is no log archive), Unsupported, StorageError.
    """
    past = load_past(site, project, instance)
    segments = [each.record for contents in past.contents.values() for each in contents.segments.values()]
    covered = max((part.interval.end_time or 0 for part in past.parts), default=0)
    return RecoveryWindow(
        instance_id=past.instance.id,
        instance_name=past.instance.name,
        datastore=past.instance.datastore,
        intervals=[_describe_part(past, part) for part in past.restorable],
        gaps=sorted(_list_gaps(past), key=lambda gap: gap.begin or gap.end or ""),
        covered_until=format_time(covered) if covered else None,
        series=len(past.contents) + len(past.damaged),
        segments=len(segments),
        raw_size=sum(segment.raw for segment in segments),
        stored_size=sum(segment.stored for segment in segments),
    )


def _describe_part(past: Past, part: Part) -> WindowInterval:
    first = part.bases[0]
    segments = _list_segments(past, part)
    begin, end = round_inwards(part.begin, part.end)
    return WindowInterval(
        begin=format_time(begin),
        end=format_time(end),
        first_position=first.start.position,
        last_position=part.interval.end,
        series=[piece.series for piece in part.interval.pieces],
        first_base=_describe_base(first),
        newest_base=_describe_base(part.bases[-1]),
        bases=len(part.bases),
        segments=len(segments),
        raw_size=sum(segment.raw for segment in segments),
        stored_size=sum(segment.stored for segment in segments),
    )


def _list_segments(past: Past, part: Part) -> Sequence[LogSegment]:
    return [segment for piece in past.pieces(part, part.bases[0].start) for segment in past.segments(piece)]


def _describe_base(base: Base) -> WindowBase:
    return WindowBase(id=base.backup.id, name=base.backup.name, kind=base.backup.kind, finished=format_time(base.time))


def _list_gaps(past: Past) -> Iterator[WindowGap]:
    """The gaps of the log, which reach to the next backup, and parts of the log without any backup."""
    following = {(part.interval.pieces[0].series, part.interval.begin): part for part in past.parts}
    backup = f"The next backup of {past.instance.name} begins a new interval."
    begun = []
    for gap in past.window.gaps:
        part = following.get((gap.series, gap.before)) if gap.before is not None else None
        begun.append(part)
        yield _describe_gap(gap, part, backup)
    for number, error in past.damaged.items():
        reason = f"the record of series {number} cannot be read: {error.message}"
        yield WindowGap(begin=None, end=None, after=None, before=None, reason=reason, remedy=error.remedy)
    for part in past.parts:
        if part.bases or any(part is each for each in begun):
            continue
        if not any(piece.first < piece.stop for piece in part.interval.pieces):
            continue  # there is no log in it yet
        times = part.interval.begin_time, part.interval.end_time
        yield WindowGap(
            begin=format_time(times[0]) if times[0] is not None else None,
            end=format_time(times[1]) if times[1] is not None else None,
            after=part.interval.begin,
            before=part.interval.end,
            reason="the log is complete, but it contains no good backup",
            remedy=backup,
        )


def _describe_gap(gap: Gap, part: Part | None, backup: str) -> WindowGap:
    end = format_time(part.begin) if part is not None and part.bases else None
    return WindowGap(
        begin=format_time(gap.after_time) if gap.after_time is not None else None,
        end=end,
        after=gap.after,
        before=gap.before,
        reason=gap.cause,
        remedy="" if end else backup,
    )
