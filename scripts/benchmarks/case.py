"""A case: something that is measured, and what it must show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.bench import Bench


@dataclass(frozen=True)
class Times:
    """``above`` by ``below``, round by round, in seconds or stored bytes: no less than ``wanted``, or with ``most`` no more.

    ``wanted`` none: only told.
    """

    text: str
    wanted: float | None
    above: str
    below: str
    of: Literal["seconds", "stored"] = "seconds"
    most: bool = False


@dataclass(frozen=True)
class Floor:
    """How many times the floor ``variant`` takes: no more than ``wanted``."""

    text: str
    wanted: float | None
    variant: str


@dataclass(frozen=True)
class Limit:
    """A figure that was measured by itself: below ``wanted``."""

    text: str
    wanted: float | None
    figure: str


Goal = Times | Floor | Limit


@dataclass(frozen=True)
class Case:
    """``name`` chooses it on the command line and in the record; cases of a ``chapter`` share a heading.

    ``quick``: in a few seconds when it has little data. ``bound`` says what bounds the goals that are missed.
    """

    name: str
    chapter: str
    title: str
    run: Callable[[Bench], None]
    goals: tuple[Goal, ...] = ()
    rounds: int = 3
    quick: bool = True
    text: str = ""
    bound: str = ""
