"""Cases: what is measured, and the goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from benchmarks.bench import Bench


@dataclass(frozen=True)
class Times:
    """The ratio of ``above`` to ``below`` per round, in seconds or stored bytes: at least ``wanted``; with ``most``, at most.

    ``wanted`` None: the ratio is only reported.
    """

    text: str
    wanted: float | None
    above: str
    below: str
    of: Literal["seconds", "stored"] = "seconds"
    most: bool = False


@dataclass(frozen=True)
class Floor:
    """The ratio of the time of ``variant`` to its floor: at most ``wanted``."""

    text: str
    wanted: float | None
    variant: str


@dataclass(frozen=True)
class Limit:
    """A single figure: at most ``wanted``."""

    text: str
    wanted: float | None
    figure: str


Goal = Times | Floor | Limit


@dataclass(frozen=True)
class Case:
    """A case. ``name`` identifies it on the command line and in the record; cases of a ``chapter`` share a heading.

    ``quick``: takes only seconds with little data. ``bound`` explains why goals are missed.
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
