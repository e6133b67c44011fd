"""Random histories of a server: a plan is made of a seed alone, so that a test knows what it meets before a server runs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from strongroom.errors import StrongroomError
from support.history import History, Rows

Kind = Literal["full", "incremental", "older", "write", "snapshot", "roll back", "restart", "crash", "reset"]
BACKUPS = ("full", "incremental", "older")
FAULTS = frozenset({"rolled back before the parent", "rolled back after the parent", "restart", "crash", "reset", "older parent"})
"""What may lie between an incremental and its parent."""
_NEXT: tuple[Kind, ...] = (
    "incremental", "incremental", "older", "full", "write", "snapshot", "roll back", "restart", "crash", "reset"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Event:
    """One step. ``chosen`` is which of the backups or snapshots so far it is about."""

    kind: Kind
    chosen: int = 0
    rows: int = 0
    passes: bool = True
    """After a roll back or a reset: the server writes on until it is past where it was."""

    def __str__(self) -> str:
        of = f" {self.chosen}" if self.kind in ("older", "roll back") else ""
        return f"{self.kind}{of}"


def plan(seed: int, steps: int) -> list[Event]:
    """Begins with rows, a snapshot, more rows and a full after a checkpoint; ends with an incremental.

    A disturbance is often followed by an incremental.
    """
    rng = random.Random(seed)
    events = [Event("write", rows=200), Event("snapshot"), Event("write", rows=500), Event("restart"), Event("full")]
    taken, snapshots = 1, 1
    while len(events) < steps:
        disturbed = events[-1].kind not in (*BACKUPS, "write", "snapshot")
        kind: Kind = "incremental" if disturbed and rng.random() < 0.7 else rng.choice(_NEXT)
        chosen = rng.randrange(taken) if kind == "older" else rng.randrange(snapshots) if kind == "roll back" else 0
        events.append(Event(kind, chosen, rng.choice([20, 200, 800]), rng.random() < 0.8))
        taken += kind in BACKUPS
        snapshots += kind == "snapshot"
    return [*events, Event("incremental", rows=20)]


def faults(events: Sequence[Event]) -> set[str]:
    """Which of ``FAULTS`` lie between an incremental of the plan and the parent that it wants."""
    found: set[str] = set()
    taken: list[int] = []
    snapshots: list[int] = []
    for step, event in enumerate(events):
        if event.kind in ("incremental", "older"):
            parent = taken[event.chosen] if event.kind == "older" else taken[-1]
            between = events[parent + 1 : step]
            found |= {each.kind for each in between} & FAULTS
            if event.kind == "older" and parent != taken[-1]:
                found.add("older parent")
            for each in between:
                if each.kind == "roll back" and each.passes:
                    found.add(f"rolled back {'before' if snapshots[each.chosen] < parent else 'after'} the parent")
        if event.kind in BACKUPS:
            taken.append(step)
        elif event.kind == "snapshot":
            snapshots.append(step)
    return found


def run(server: History, events: Sequence[Event]) -> None:
    """Every backup is restored at the end, and compared with what the server held when it was taken."""
    chain: list[Any] = []
    taken: list[tuple[list[Any], Rows, int]] = []
    snapshots: list[Path] = []
    for step, event in enumerate(events):
        match event.kind:
            case "full":
                chain = server.back_up([])
            case "incremental":
                server.write(event.rows)
                chain = server.back_up(chain)
            case "older":
                chain = server.back_up(taken[event.chosen][0])
            case "write":
                server.write(event.rows)
            case "snapshot":
                snapshots.append(server.snapshot())
            case "restart":
                server.restart()
            case "crash":
                server.crash()
            case "roll back" | "reset":
                passed = server.position()
                if event.kind == "reset":
                    server.reset_log()
                else:
                    server.roll_back(snapshots[event.chosen])
                if event.passes:
                    server.write_past(passed)
        if event.kind in BACKUPS:
            taken.append((chain, server.rows(), step))
    for chain, rows, step in taken:
        if any(each is not chain and each[: len(chain)] == chain for each, _, _ in taken):
            continue  # its end is on the way to another
        told = " · ".join(map(str, events[: step + 1]))
        try:
            found = server.restored(chain)
        except StrongroomError as error:
            raise AssertionError(f"{told}: cannot be restored: {error.message}") from error
        assert found == rows, f"{told}: {len(found - rows)} rows too many, {len(rows - found)} are missing"
