"""Chooses from what a target is restored: the part of the log that contains it, its position, the newest backup before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from strongroom.archive import Target
from strongroom.datastores.protocol.logs import Cut
from strongroom.errors import Conflict, NotFound
from strongroom.flows.recovery.decision import Recovery, RecoveryBase
from strongroom.flows.recovery.past import Base, Part, Past
from strongroom.flows.recovery.times import describe_target, describe_time, round_inwards

MOST_BASES = 3
"""Backups that a restore tries, if the first ones prove to be damaged."""


@dataclass(frozen=True, slots=True)
class Choice:
    """From what the target is restored."""

    target: Target
    part: Part
    bases: Sequence[Base]
    """At or before the cut, newest first; at least one."""
    cut: Cut


def choose(past: Past, target: Target) -> Choice:
    """Choose for the target. Of several histories that contain it, the newest is taken.

    Raises Conflict for a target that cannot be restored, with the nearest moments that can; InvalidRequest for a kind of target
    that the database does not have; ArtifactError, StorageError.
    """
    causes: list[str] = []
    for part in reversed(past.restorable):
        first = _find_first(part, target)
        if first is None:
            continue
        try:
            cut = _find_cut(past, part, first, target)
        except NotFound as error:
            causes.append(error.message)
            continue
        bases = [base for base in part.bases if _is_before(past, part, base, cut)]
        if bases:
            return Choice(target, part, bases[::-1], cut)
    raise _refuse(past, target, causes)


def decide(past: Past, choice: Choice) -> Recovery:
    """The choice as a job keeps it."""
    return Recovery(
        instance=past.instance.id,
        target=str(choice.target),
        log=past.log,
        cut=choice.cut,
        bases=tuple(_decide_base(past, choice, base) for base in choice.bases[:MOST_BASES]),
    )


def _decide_base(past: Past, choice: Choice, base: Base) -> RecoveryBase:
    pieces = past.pieces(choice.part, base.start, choice.cut)
    segments = [segment for piece in pieces for segment in past.segments(piece)]
    return RecoveryBase(
        backup=base.backup.id,
        name=base.backup.name,
        start=base.start,
        pieces=pieces,
        raw_size=sum(segment.raw for segment in segments),
        stored_size=sum(segment.stored for segment in segments),
        segments=len(segments),
    )


def _find_first(part: Part, target: Target) -> Base | None:
    """The backup from which the log is searched for the target; None if the part cannot contain it."""
    if target.kind == "latest":
        return part.bases[-1]
    if target.kind != "time":
        return part.bases[0]
    if not part.begin <= target.microseconds <= part.end:
        return None
    return [base for base in part.bases if base.time <= target.microseconds][-1]


def _find_cut(past: Past, part: Part, base: Base, target: Target) -> Cut:
    pieces = past.pieces(part, base.start)
    if target.kind in ("latest", "time") and all(piece.first == piece.stop for piece in pieces):
        return Cut(pieces[-1].series, pieces[-1].end, None, None)  # nothing happened after the backup
    return past.logs.find_cut(target, past.stretch(pieces))


def _is_before(past: Past, part: Part, base: Base, cut: Cut) -> bool:
    precedes = past.logs.precedes
    of_base = part.find_piece(base.start.series, base.start.position, precedes)
    of_cut = part.find_piece(cut.series, cut.position, precedes)
    assert of_base is not None and of_cut is not None, "the backup and the cut are in the part"
    return of_base < of_cut or (of_base == of_cut and precedes(base.start.reaches, cut.position))


def _refuse(past: Past, target: Target, causes: Sequence[str]) -> Conflict:
    name = past.instance.name
    what = f"instance {name} cannot be restored to {describe_target(target)}"
    see = f"`strongroom window {name}` shows what can be restored."
    if not past.restorable:
        return Conflict(f"{what}: no good backup is in a complete part of its log", remedy=f"Take a backup. {see}")
    if target.kind != "time":
        return Conflict(f"{what}: {causes[0]}" if causes else what, remedy=see)
    time = target.microseconds
    spans = [round_inwards(part.begin, part.end) for part in past.restorable]
    earlier, later = (
        max((end for _, end in spans if end < time), default=None),
        min((b for b, _ in spans if b > time), default=None),
    )
    nearest = " and ".join(describe_time(moment) for moment in (earlier, later) if moment is not None)
    remedy = f"The nearest moment{'s' if earlier and later else ''} that can be restored: {nearest}. {see}" if nearest else see
    return Conflict(f"{what}: {causes[0] if causes else _explain(past, time, earlier, later)}", remedy=remedy)


def _explain(past: Past, time: int, earlier: int | None, later: int | None) -> str:
    """Why the time is in no part of the log that can be restored."""
    if later is None:
        return f"its log is stored until {describe_time(max(part.end for part in past.restorable))}"
    gap = next((gap for gap in past.window.gaps if (gap.after_time or time) <= time <= (gap.before_time or time)), None)
    if earlier is not None and gap is not None:
        return f"a part of its log is missing there ({gap.cause})"
    return f"no good backup is old enough; the next one in the log was complete at {describe_time(later)}"
