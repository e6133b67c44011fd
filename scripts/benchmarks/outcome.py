"""Evaluates the raw results: medians, spreads, and whether goals are met."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.case import Case, Floor, Goal, Limit, Times
from benchmarks.record import CaseResult


@dataclass(frozen=True)
class Judged:
    """A goal with its measurement. ``reached`` is None if there is no target."""

    text: str
    wanted: str
    measured: str
    reached: bool | None


def judge(case: Case, result: CaseResult) -> list[Judged]:
    """The goals of the case for which there is a measurement."""
    found = (_judge(goal, result) for goal in case.goals)
    return [judged for judged in found if judged is not None]


def _judge(goal: Goal, result: CaseResult) -> Judged | None:
    match goal:
        case Times():
            ratios = rounds(result, goal)
            if not ratios:
                return None
            return _judged(goal.text, goal.wanted, spread(ratios), statistics.median(ratios), most=goal.most)
        case Floor():
            variant = result.variants.get(goal.variant)
            if variant is None or not variant.floor:
                return None
            ratios = [seconds / max(variant.floor.values()) for seconds in variant.seconds]
            return _judged(goal.text, goal.wanted, spread(ratios), statistics.median(ratios), most=True)
        case Limit():
            figure = result.figures.get(goal.figure)
            if figure is None:
                return None
            return _judged(goal.text, goal.wanted, number(figure.value), figure.value, most=True)


def _judged(text: str, wanted: float | None, shown: str, measured: float, *, most: bool) -> Judged:
    if wanted is None:
        return Judged(text, "", shown, None)
    reached = measured <= wanted if most else measured >= wanted
    return Judged(text, f"{'≤' if most else '≥'} {wanted:g}", shown, reached)


def rounds(result: CaseResult, goal: Times) -> list[float]:
    """The ratio of each round. A variant that was measured only once is compared with each measurement of the other."""
    above, below = result.variants.get(goal.above), result.variants.get(goal.below)
    if above is None or below is None:
        return []
    tops: Sequence[float] = getattr(above, goal.of)
    bottoms: Sequence[float] = getattr(below, goal.of)
    if len(tops) != len(bottoms):
        tops = [statistics.median(tops)] * len(bottoms) if tops else []
    return [top / bottom for top, bottom in zip(tops, bottoms, strict=bool(tops)) if bottom]


def spread(values: Sequence[float]) -> str:
    """The median, the minimum and the maximum."""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """The value with three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
