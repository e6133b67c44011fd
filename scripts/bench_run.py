"""What every benchmark shares: timing variants in turn, and judging their medians against goals."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 130)
MEMORY = 300 * 1024**2
"""Bytes that a worker may take."""


@dataclass(frozen=True)
class Goal:
    """How many times less ``fast`` takes than ``slow``: seconds, or bytes in the store. ``wanted`` none: only told."""

    text: str
    wanted: float | None
    slow: str
    fast: str
    of: str = "seconds"


class Run:
    """The times and sizes of one run."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.seconds: dict[str, list[float]] = {}
        self.bytes: dict[str, list[int]] = {}
        self.memory: list[int] = []
        self.first_byte: list[float] = []

    def timed(self, name: str, work: Callable[[], object]) -> None:
        """Run one variant, on a disk at rest, and keep its time."""
        os.sync()
        began = time.monotonic()
        work()
        self.note(name, time.monotonic() - began)

    def note(self, name: str, seconds: float) -> None:
        """Keep a time that was told."""
        self.seconds.setdefault(name, []).append(seconds)
        console.print(f"  {name:<40} {seconds:7.2f} s")

    def stored(self, name: str, size: int) -> None:
        """Keep what a variant has stored, in bytes."""
        self.bytes.setdefault(name, []).append(size)

    def shell(self, pipeline: str, **how: Any) -> None:
        """A pipeline as a person types it; every part of it must succeed."""
        subprocess.run(["bash", "-o", "pipefail", "-ec", pipeline], check=True, stderr=subprocess.DEVNULL, **how)

    def report(self, goals: Sequence[Goal]) -> tuple[Table, dict[str, Any]]:
        """Print the times; return the table of the goals and the same for programs, to both of which more may be added."""
        table = Table("variant", "median s", "all", "stored MB")
        for name, values in self.seconds.items():
            stored = f"{statistics.median(self.bytes[name]) / 1e6:.1f}" if name in self.bytes else ""
            table.add_row(name, f"{statistics.median(values):.2f}", " ".join(f"{v:.2f}" for v in values), stored)
        console.print(table)
        judged = Table("goal", "wanted", "measured", "reached")
        outcome: dict[str, Any] = {}
        for goal in goals:
            values: dict[str, list[Any]] = self.seconds if goal.of == "seconds" else self.bytes
            if goal.slow not in values or goal.fast not in values:
                continue
            ratio = statistics.median(values[goal.slow]) / statistics.median(values[goal.fast])
            outcome[goal.text] = round(ratio, 2)
            if goal.wanted is None:
                judged.add_row(goal.text, "", f"{ratio:.2f}", "")
            else:
                judge(judged, goal.text, f"{goal.wanted:g}", f"{ratio:.2f}", ratio >= goal.wanted)
        peak = max(self.memory)
        outcome["worker memory, peak bytes"] = peak
        judge(judged, "worker memory, MB", f"< {MEMORY >> 20}", f"{peak / 2**20:.0f}", peak < MEMORY)
        return judged, outcome


def judge(table: Table, text: str, wanted: str, measured: str, reached: bool) -> None:
    """Add a goal to the table."""
    table.add_row(text, wanted, measured, "yes" if reached else "NO")


def warm(data: Path) -> None:
    """Everything into the page cache, and nothing left to write."""
    for path in data.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 22):
                    pass
    os.sync()


def size_of(top: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in top.rglob("*") if path.is_file())
