"""Measures a case: the variants in turn, each with its time, processor time, memory and stored bytes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.machine import Rates
from benchmarks.processes import Memory, cpu_seconds
from benchmarks.record import CaseResult, Figure, Variant
from benchmarks.site import Site

console = Console(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else 130)


class Bench:
    """The tools of a case. Its measurements go to ``result``."""

    def __init__(self, site: Site, result: CaseResult, *, scale: float, rounds: int) -> None:
        self.site = site
        self.place = site.place
        self.result = result
        self.scale = scale
        self._rounds = rounds

    # --- sizes

    def scaled(self, number: float, least: int = 1) -> int:
        """A size of the full benchmark, multiplied by the requested scale."""
        return max(least, round(number * self.scale))

    def rounds(self) -> Iterator[int]:
        """The rounds. In each, every variant is measured once, so that other load on the machine affects all of them."""
        for number in range(1, self._rounds + 1):
            if self._rounds > 1:
                console.print(f"  round {number}")
            yield number

    # --- measuring

    def timed(self, name: str, work: Callable[[], object], command: str = "", *, data: Path | None = None) -> float:
        """Measure one variant after a sync, with ``data`` in the page cache. Returns its seconds."""
        variant = self._variant(name, command)
        if data:
            warm(data)
        os.sync()
        cpu, began = cpu_seconds(), time.monotonic()
        with Memory() as memory:
            work()
            seconds = time.monotonic() - began
        variant.seconds.append(round(seconds, 3))
        variant.cpu.append(round(cpu_seconds() - cpu, 2))
        variant.memory.append(memory.peak)
        console.print(f"    {name:<44} {seconds:8.2f} s")
        return seconds

    def note(self, name: str, seconds: float, command: str = "") -> None:
        """Record a time that was measured elsewhere."""
        self._variant(name, command).seconds.append(round(seconds, 3))
        console.print(f"    {name:<44} {seconds:8.2f} s")

    def stored(self, name: str, size: int) -> None:
        """Record how many bytes a variant has stored."""
        self._variant(name).stored.append(size)

    def floor(self, name: str, **terms: float) -> None:
        """Record the minimum seconds of a variant, for each limiting resource."""
        self._variant(name).floor = {text: round(seconds, 3) for text, seconds in terms.items()}

    def floors(self, name: str, rates: Rates, size: int, *, stored: int, back: bool = False) -> None:
        """Record the floor of a backup, or of a restore (``back``), of ``size`` bytes."""
        self.result.rates = {name: round(rate) for name, rate in asdict(rates).items()}
        if back:
            self.floor(name, read=stored / rates.read, decompress=size / rates.decompress, write=size / rates.write)
        else:
            self.floor(name, read=size / rates.read, compress=size / rates.compress, write=stored / rates.write)

    def figure(self, name: str, value: float, unit: str) -> None:
        """Record a number that does not belong to a variant."""
        self.result.figures[name] = Figure(value=round(value, 4), unit=unit)
        console.print(f"    {name:<44} {value:8.2f} {unit}")

    def shell(self, pipeline: str, **how: Any) -> None:
        """Run a pipeline of the shell. Every part of it must succeed."""
        ran = subprocess.run(["bash", "-o", "pipefail", "-ec", pipeline], check=False, capture_output=True, **how)
        if ran.returncode:
            raise RuntimeError(f"{pipeline}\nended with {ran.returncode}: {ran.stderr.decode(errors='replace')[-2000:]}")

    def piped(self, name: str, pipeline: str, *, data: Path | None = None, **how: Any) -> float:
        """Measure a pipeline, including the sync of the file system. The page shows it with $WORK as the directory."""
        shown = pipeline.removesuffix("; sync").replace(str(self.place), "$WORK")
        return self.timed(name, lambda: self.shell(pipeline, **how), shown, data=data)

    def _variant(self, name: str, command: str = "") -> Variant:
        variant = self.result.variants.setdefault(name, Variant())
        variant.command = variant.command or command
        return variant


def warm(data: Path) -> None:
    """Read all files below into the page cache: mariadb-backup evicts what it has read."""
    for path in data.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 22):
                    pass


def size_of(top: Path) -> int:
    """The total size of all files below, in bytes."""
    return sum(path.stat().st_size for path in top.rglob("*") if path.is_file())
