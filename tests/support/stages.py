"""Run a job in the engine's own order, without DBOS: a stage in which the control plane dies is done again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from strongroom.catalog import Job
from strongroom.flows.loop import Stages, begin_job, clean_up, run_job, run_step, settle_job
from strongroom.flows.site import Site

Failure = dict[str, str]


def run_stages(control: Site, job: Job, *, killed: type[BaseException], restarts: int = 1) -> Failure | None:
    """The failure that the job was settled with; none when it succeeded. ``killed`` stands for the death of the process."""
    left, outcome = restarts, [None]

    async def again(stage: Callable[[], Awaitable[Any]]) -> Any:
        nonlocal left
        while True:
            try:
                return await stage()
            except killed:
                left -= 1
                assert left >= 0, "the control plane died more often than the test means"

    async def settle(job_id: str, failure: Failure | None) -> None:
        outcome[0] = failure  # type: ignore[call-overload]
        await again(lambda: settle_job(control, job_id, failure))

    stages = Stages(
        begin=lambda job_id: again(lambda: begin_job(control, job_id)),
        step=lambda job_id, kind, number: again(lambda: run_step(control, job_id, kind, number)),
        clean=lambda job_id, kind: again(lambda: clean_up(control, job_id, kind)),
        settle=settle,
    )
    asyncio.run(run_job(job.id, stages))
    return outcome[0]
