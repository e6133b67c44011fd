"""What the raw results say: medians, spreads, and goals that are reached or not."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.case import Case, Floor, Goal, Limit, Times
from benchmarks.record import CaseResult


@dataclass(frozen=True)
class Judged:
    """A goal with what was measured. ``reached`` none: nothing was wanted."""

    text: str
    wanted: str
    measured: str
    reached: bool | None


def judge(case: Case, result: CaseResult) -> list[Judged]:
    """Every goal of the case that was measured."""
    found = (_judge(goal, result) for goal in case.goals)
    return [judged for judged in found if judged is not None]


def _judge(goal: Goal, result: CaseResult) -> Judged | None:
    match goal:
        case Times():
            ratios = rounds(result, goal)
            if not ratios:
                return None
            wanted, measured = goal.wanted, statistics.median(ratios)
            reached = round(measured, 2) >= round(wanted, 2) if wanted else None
            return Judged(goal.text, f"≥ {wanted:.3g}" if wanted else "", spread(ratios), reached)
        case Floor():
            variant = result.variants.get(goal.variant)
            if variant is None or not variant.floor:
                return None
            ratios = [seconds / max(variant.floor.values()) for seconds in variant.seconds]
            reached = statistics.median(ratios) <= goal.wanted if goal.wanted else None
            return Judged(goal.text, f"≤ {goal.wanted:g}" if goal.wanted else "", spread(ratios), reached)
        case Limit():
            figure = result.figures.get(goal.figure)
            if figure is None:
                return None
            reached = figure.value <= goal.wanted if goal.wanted else None
            return Judged(goal.text, f"≤ {goal.wanted:g}" if goal.wanted else "", number(figure.value), reached)


def rounds(result: CaseResult, goal: Times) -> list[float]:
    """The ratio of each round; variants of one round met the same machine. One that was measured once is compared with every."""
    slow, fast = result.variants.get(goal.slow), result.variants.get(goal.fast)
    if slow is None or fast is None:
        return []
    above: Sequence[float] = getattr(slow, goal.of)
    below: Sequence[float] = getattr(fast, goal.of)
    if not above or not below:
        return []
    if len(above) != len(below):
        above = [statistics.median(above)] * len(below)
    return [a / b for a, b in zip(above, below, strict=True) if b]


def spread(values: Sequence[float]) -> str:
    """The median, and from where to where the others reach."""
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """Three digits that mean something."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"
