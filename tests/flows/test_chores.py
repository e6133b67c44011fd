"""Chores run at the start, when they are due, and when they are woken; an error ends only one run."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from strongroom.flows import CHORES, Chore, ChoreRunner, Site
from strongroom.flows.chores.trim import TRIM

NEVER = 3600.0


def test_chores_have_distinct_names() -> None:
    assert len({chore.name for chore in CHORES}) == len(CHORES)


def test_freed_memory_is_returned() -> None:
    blocks = [bytes(1000) for _ in range(100_000)]
    kept = blocks[::100]
    del blocks
    before = _resident()
    TRIM.run(cast(Site, SimpleNamespace(catalog=SimpleNamespace(release_memory=lambda: None))))
    assert before - _resident() > 50_000
    del kept


def _resident() -> int:
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


def test_chores_run_when_due_or_woken() -> None:
    runs: list[str] = []

    def run_at_once_again(_control: Site) -> float | None:
        runs.append("often")
        return 0.0 if runs.count("often") < 3 else None

    def fail(_control: Site) -> float | None:
        runs.append("broken")
        raise ValueError("a defect")

    def recover(_control: Site) -> float | None:
        runs.append("again")
        if runs.count("again") == 1:
            raise ValueError("a defect")
        return None

    chores = [
        Chore(name="often", interval=NEVER, run=run_at_once_again),
        Chore(name="daily", interval=NEVER, run=lambda _control: runs.append("daily")),
        Chore(name="broken", interval=NEVER, run=fail),
        Chore(name="again", interval=NEVER, run=recover, retry=0.01),
    ]

    async def run() -> None:
        runner = ChoreRunner(cast(Any, None), chores)
        runner.start()
        await _until(lambda: runs.count("often") == 3 and runs.count("broken") == 1 and runs.count("daily") == 1)
        await _until(lambda: runs.count("again") == 2)
        runner.wake("daily")
        runner.wake("broken")
        await _until(lambda: runs.count("daily") == 2 and runs.count("broken") == 2)
        await runner.stop()
        before = len(runs)
        runner.wake("daily")
        await asyncio.sleep(0.05)
        assert len(runs) == before

    asyncio.run(run())


async def _until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
