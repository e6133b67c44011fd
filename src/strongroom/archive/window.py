"""The recovery window of one server: which parts of its log are complete, proven from the records of segments alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from strongroom.archive.contents import Contents
from strongroom.archive.load import Stored
from strongroom.archive.reader import require_link
from strongroom.archive.records import LogSegment, Precedes, Time
from strongroom.errors import ArtifactCorrupt


@dataclass(frozen=True, slots=True)
class Piece:
    """Segments ``first`` to before ``stop`` of a series; none of a series that has no segments yet."""

    series: int
    first: int
    stop: int
    begin: str
    end: str
    """Where the piece ends; if another one follows, where that one continues it."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A complete part of the log: every position in it can be restored from a backup that ends in it."""

    pieces: tuple[Piece, ...]
    begin_time: Time | None
    """Lowest time known of it; None if nothing happened in it."""
    end_time: Time | None
    """Until when it is complete."""

    @property
    def begin(self) -> str:
        return self.pieces[0].begin

    @property
    def end(self) -> str:
        return self.pieces[-1].end


@dataclass(frozen=True, slots=True)
class Gap:
    """A part of the log that the store does not have, or has not in a usable form."""

    series: int
    """The series before which or in which it is."""
    after: str | None
    """The last position before it; None if nothing before it is known."""
    before: str | None
    """The first position after it; None if nothing follows yet."""
    after_time: Time | None
    before_time: Time | None
    cause: str


@dataclass(frozen=True, slots=True)
class Window:
    """Intervals in the order of their series, and the gaps between them."""

    intervals: tuple[Interval, ...]
    gaps: tuple[Gap, ...]


@dataclass(slots=True)
class _Run:
    """Segments of one series that follow each other."""

    contents: Contents
    first: int
    begin: str
    cause: str
    """Why it does not continue the run before it; empty for the first of a series."""
    segments: list[Stored[LogSegment]]
    extended: bool = False
    """Whether another series continues its end."""
    parent: tuple[_Run, str] | None = None

    @property
    def number(self) -> int:
        return self.contents.series.record.location.number

    @property
    def end(self) -> str:
        return self.segments[-1].record.end if self.segments else self.begin

    @property
    def begin_time(self) -> Time | None:
        times = [each.record.first_time for each in self.segments if each.record.first_time is not None]
        return min([*times[:1], *([self.contents.series.record.started] if not self.first else [])], default=None)

    @property
    def end_time(self) -> Time | None:
        times = [time for each in self.segments for time in (each.record.last_time, each.record.covered_until)]
        covered = self.contents.covered
        last = (self.segments[-1].record.number, self.segments[-1].sha256) if self.segments else (-1, self._series_hash)
        if covered is not None and (covered.number, covered.record) == last:
            times.append(covered.time)
        return max((time for time in times if time is not None), default=None)

    @property
    def _series_hash(self) -> str:
        return self.contents.series.sha256

    def piece(self, until: str | None, precedes: Precedes) -> Piece:
        """Its segments, or those up to the position ``until``."""
        stop = len(self.segments)
        if until is not None:
            stop = next((at for at, each in enumerate(self.segments, 1) if precedes(until, each.record.end)), stop)
        return Piece(self.number, self.first, self.first + stop, self.begin, until or self.end)


def find_window(log: Sequence[Contents], precedes: Precedes) -> Window:
    """The recovery window of the series of one server. A series that continues another one does not interrupt it."""
    runs: list[_Run] = []
    for contents in sorted(log, key=lambda each: each.series.record.location.number):
        for run in _find_runs(contents):
            run.parent = None if run.first or run.cause else _find_parent(run, runs, precedes)
            if run.parent and run.parent[0].end == run.parent[1]:
                run.parent[0].extended = True
            runs.append(run)
    gaps = [
        _describe_gap(run, runs[at - 1] if at else None) for at, run in enumerate(runs) if not run.parent and (at or run.cause)
    ]
    gaps += [gap for contents in log if (gap := _find_lost_end(contents, runs)) is not None]
    return Window(tuple(_join(run, precedes) for run in runs if not run.extended), tuple(gaps))


def _find_runs(contents: Contents) -> Iterator[_Run]:
    series = contents.series
    begin, sha256, cause, expected = series.record.begin, series.sha256, "", 0
    if contents.trimmed is not None:
        begin, sha256, expected = contents.trimmed.begin, contents.trimmed.previous, contents.trimmed.first
    run: _Run | None = _Run(contents, expected, begin, "", [])
    for number in sorted({*contents.segments, *contents.damaged}):  # the numbers come from names in the store
        found = contents.segments.get(number)
        trouble = f"log segment {expected} is missing" if number != expected else contents.damaged.get(number, "")
        if found is not None and not trouble and run is not None:
            try:
                require_link(found, begin, sha256)
            except ArtifactCorrupt as error:
                trouble = error.message
        if trouble:
            if run is not None and run.segments:
                yield run
            run, cause = None, cause or trouble
        expected = number + 1
        if found is None:
            continue
        if run is None:
            run, cause = _Run(contents, number, found.record.begin, cause, []), ""
        run.segments.append(found)
        begin, sha256 = found.record.end, found.sha256
    if run is not None:
        yield run


def _find_parent(run: _Run, runs: Sequence[_Run], precedes: Precedes) -> tuple[_Run, str] | None:
    seam = run.contents.series.record.continues
    if seam is None:
        return None
    for parent in runs:
        try:
            within = precedes(parent.begin, seam.position) and precedes(seam.position, parent.end)
        except ValueError:
            continue
        if parent.number == seam.series and parent.number < run.number and within:
            return parent, seam.position
    return None


def _join(run: _Run, precedes: Precedes) -> Interval:
    pieces, first = [run.piece(None, precedes)], run
    end_time = run.end_time
    while first.parent is not None:
        first, until = first.parent
        pieces.insert(0, first.piece(until, precedes))
        if end_time is None:
            end_time = first.end_time
    return Interval(tuple(pieces), first.begin_time, end_time)


def _describe_gap(run: _Run, before: _Run | None) -> Gap:
    series = run.contents.series.record
    if run.cause:
        cause = run.cause
    elif series.continues is not None:
        cause = f"the end of series {series.continues.series}, which series {run.number} continues, is not stored"
    else:
        cause = series.reason or series.began
    known = before if before is not None and (not run.cause or before.number == run.number) else None
    after = known.end if known else series.begin if run.cause else None
    return Gap(run.number, after, run.begin, known.end_time if known else None, run.begin_time, cause)


def _find_lost_end(contents: Contents, runs: Sequence[_Run]) -> Gap | None:
    """The gap at the end of a series whose last segments are damaged."""
    number = contents.series.record.location.number
    last = max(contents.segments, default=-1)
    lost = sorted(each for each in contents.damaged if each > last)
    if not lost:
        return None
    run = next((each for each in reversed(runs) if each.number == number), None)
    after = run.end if run else contents.series.record.begin
    return Gap(number, after, None, run.end_time if run else None, None, contents.damaged[lost[0]])
