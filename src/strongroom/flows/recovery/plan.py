"""The plan of a restore to a moment: the backup, the log, the last transaction in it and the first one outside, what is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from strongroom.archive import Target
from strongroom.datastores.protocol.logs import OUTDATED, Transaction
from strongroom.flows.plans.restore import PlannedEffect, RestorePlan, plan_restore
from strongroom.flows.recovery.choice import Choice, choose, decide
from strongroom.flows.recovery.decision import Recovery
from strongroom.flows.recovery.past import Part, Past, load_past
from strongroom.flows.recovery.times import format_time
from strongroom.flows.site import Site


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlannedTransaction(_Model):
    """A transaction in the log."""

    name: str = Field(description="A GTID, or the id of a PostgreSQL transaction.")
    time: str
    begin: str = Field(description="The last position without it.")
    end: str = Field(description="The first position with it.")
    tables: list[str]


class RecoveryOutline(_Model):
    """What a restore to a moment would do with the log."""

    instance_id: str = Field(description="The instance whose past is restored.")
    instance_name: str
    target: str
    time: str | None = Field(description="The time of the target as it was understood, in UTC; null for other targets.")
    position: str = Field(description="The log is applied up to this position.")
    last: PlannedTransaction | None = Field(description="The last transaction that is restored, if it is in the log.")
    next: PlannedTransaction | None = Field(description="The first transaction that is not restored, if it is in the log.")
    base_finished: str = Field(description="When the backup was complete.")
    other_bases: int = Field(description="How many older backups are tried if the backup proves to be damaged.")
    segments: int = Field(description="Segments of the log that are applied.")
    log_raw_size: int
    log_stored_size: int
    lost_until: str | None = Field(description="The log after the target, until then, is not restored; null: there is none.")
    lost_transactions: int = Field(description="About as many transactions follow the target in the log.")


class RecoveryPlan(RecoveryOutline):
    """What a restore to a moment would do. ``restore`` is the plan of the backup to which the log is applied."""

    restore: RestorePlan


@dataclass(frozen=True, slots=True)
class _Outlined:
    outline: RecoveryOutline
    project: str
    backup: str
    effects: Sequence[PlannedEffect]


def decide_recovery(site: Site, project: str, instance: str, target: str) -> Recovery:
    """What a job has to do to restore the instance to the target. Not on the event loop.

    Raises NotFound, InvalidRequest, Conflict (unreachable, or no log archive), Unsupported, StorageError, ArtifactError.
    """
    past, choice = _choose(site, project, instance, target)
    warnings = tuple(f"{effect.message}. {effect.remedy}" for effect in _warn_newer(past, choice))
    return decide(past, choice).model_copy(update={"warnings": warnings})


async def plan_recovery(
    site: Site,
    project: str,
    instance: str,
    target: str,
    *,
    in_place: str | None = None,
    host: str | None = None,
    flavor: str | None = None,
    size: int | None = None,
    tablespaces: Sequence[str] = (),
) -> RecoveryPlan:
    """The plan. It changes nothing. Raises as ``decide_recovery`` and ``plan_restore``."""
    found = await asyncio.to_thread(_outline, site, project, instance, target)
    restore = await plan_restore(
        site,
        found.project,
        found.backup,
        instance=in_place,
        host=host,
        flavor=flavor,
        size=size,
        tablespaces=tablespaces,
    )
    effects = [effect for effect in restore.effects if effect.item not in OUTDATED or effect.effect == "refused"]
    restore = restore.model_copy(update={"effects": [*effects, *found.effects]})
    return RecoveryPlan.model_validate({**dict(found.outline), "restore": restore})


def _outline(site: Site, project: str, instance: str, target: str) -> _Outlined:
    past, choice = _choose(site, project, instance, target)
    recovery = decide(past, choice)
    base = recovery.bases[0]
    lost, until = _count_lost(past, choice)
    outline = RecoveryOutline(
        instance_id=past.instance.id,
        instance_name=past.instance.name,
        target=recovery.target,
        time=format_time(choice.target.microseconds) if choice.target.kind == "time" else None,
        position=choice.cut.position,
        last=_describe(choice.cut.last),
        next=_describe(choice.cut.next),
        base_finished=format_time(choice.bases[0].time),
        other_bases=len(recovery.bases) - 1,
        segments=base.segments,
        log_raw_size=base.raw_size,
        log_stored_size=base.stored_size,
        lost_until=format_time(until) if until is not None else None,
        lost_transactions=lost,
    )
    return _Outlined(outline, past.instance.project, base.backup, _warn_newer(past, choice))


def _choose(site: Site, project: str, instance: str, target: str) -> tuple[Past, Choice]:
    parsed = Target.parse(target)
    past = load_past(site, project, instance)
    return past, choose(past, parsed)


def _describe(transaction: Transaction | None) -> PlannedTransaction | None:
    if transaction is None:
        return None
    return PlannedTransaction(
        name=transaction.name,
        time=format_time(transaction.time),
        begin=transaction.begin,
        end=transaction.end,
        tables=list(transaction.tables),
    )


def _count_lost(past: Past, choice: Choice) -> tuple[int, int | None]:
    """How many transactions are in the segments after the cut, and until when the newest log after it is complete."""
    newest = past.parts[-1]
    cut = choice.cut
    lost = 1 if cut.next is not None else 0
    for part in {id(part): part for part in (choice.part, newest)}.values():
        number = part.find_piece(cut.series, cut.position, past.logs.precedes)
        after = [
            segment
            for piece in part.interval.pieces[number or 0 :]
            for segment in past.segments(piece)
            if piece.series != cut.series or past.logs.precedes(cut.position, segment.begin)
        ]
        lost = max(lost, sum(segment.transactions for segment in after))
    until = newest.interval.end_time
    return lost, until if lost else None


def _warn_newer(past: Past, choice: Choice) -> list[PlannedEffect]:
    """A warning for ``latest`` if there is newer log that no backup reaches."""
    if choice.target.kind != "latest" or choice.part is past.parts[-1]:
        return []
    newest: Part = past.parts[-1]
    end = format_time(newest.interval.end_time) if newest.interval.end_time is not None else "now"
    return [
        PlannedEffect(
            effect="warned",
            item="newer log",
            message=f"the log from {newest.interval.begin} until {end} cannot be applied: there is a gap before it, "
            "and no good backup in it",
            remedy=f"See `strongroom window {past.instance.name}`.",
        )
    ]
