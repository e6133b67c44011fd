"""The life of a job: begin, run its steps, clean up after a failure, settle. Independent of DBOS: tests run the same loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog
from sqlalchemy.exc import DBAPIError

from strongroom.catalog import now
from strongroom.catalog.find import find_job
from strongroom.errors import Cancelled, JobError, StrongroomError
from strongroom.flows import outcomes
from strongroom.flows.hosts.presence import RETRY_PAUSE, retry_while_silent
from strongroom.flows.kind import Failure, kind_of
from strongroom.flows.site import Site
from strongroom.flows.status import move_job
from strongroom.flows.steps import work

log = structlog.get_logger()
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stages:
    """The four stages of a job. Each is idempotent; the engine makes each durable."""

    begin: Callable[[str], Awaitable[str | None]]
    step: Callable[[str, str, int], Awaitable[Failure | None]]
    clean: Callable[[str, str], Awaitable[bool]]
    settle: Callable[[str, Failure | None], Awaitable[None]]


async def run_job(job_id: str, stages: Stages) -> str:
    """Run a job: begin, its steps, settle. Returns "succeeded" or the code of its error."""
    kind = await stages.begin(job_id)
    if kind is None:
        return "nothing to do"
    failure: Failure | None = None
    for number in range(len(kind_of(kind).steps)):
        failure = await stages.step(job_id, kind, number)
        if failure is not None:
            break
    if failure is not None and kind_of(kind).clean and await stages.clean(job_id, kind):
        failure = None
    await stages.settle(job_id, failure)
    return failure["code"] if failure else "succeeded"


async def begin_job(site: Site, job_id: str) -> str | None:
    """Mark the job as running and return its kind; None if it has already ended (cancelled in the queue)."""

    def write() -> str | None:
        with site.catalog.write() as session:
            row = find_job(session, None, job_id)
            if row.finished is not None:
                site.secrets.drop(job_id)
                return None
            if row.status == "queued":
                move_job(row, "running")
                row.started = now()
                outcomes.begin(session, row)
            return row.kind

    return await retry_while_away(site, lambda: asyncio.to_thread(write))


async def run_step(site: Site, job_id: str, kind: str, number: int) -> Failure | None:
    """Run one step and return its failure, if any. A failure is a result: DBOS must not store it as an exception."""
    action = kind_of(kind).steps[number]
    try:
        host = await retry_while_away(site, lambda: asyncio.to_thread(_host_unless_cancelled, site, job_id))
        await retry_while_silent(
            site.agents.presence,
            host,
            lambda: retry_while_away(site, lambda: action(site.for_job(job_id), job_id)),
            None if action is work else lambda: asyncio.to_thread(_count_events, site, job_id),  # a worker has its own limit
        )
    except StrongroomError as error:
        log.warning("step failed", job=job_id, kind=kind, step=action.__name__, error=error.code, reason=error.message)
        return error.to_dict()
    except Exception:
        log.exception("unexpected error in a step", job=job_id, kind=kind, step=action.__name__)
        return JobError(
            f"unexpected error in step {action.__name__} of {kind} job {job_id}; see the log of the service",
            remedy="This is a defect: report it with the log.",
        ).to_dict()
    return None


def _host_unless_cancelled(site: Site, job_id: str) -> str | None:
    """The host of the job. Raises Cancelled if the job was cancelled, unless a complete backup of it is to be kept."""
    with site.catalog.read() as session:
        row = find_job(session, None, job_id)
        if row.cancel and not kind_of(row.kind).outlives_cancel:
            raise Cancelled(f"{row.kind} job {job_id} was cancelled")
        if given_up := row.params.get("given_up"):
            raise JobError(given_up, remedy="Find the cause in the log of the service and in the kernel log; then try again.")
        if row.finished is not None and row.kind != "backup":  # it was reset, or its host was removed
            raise Cancelled(f"{row.kind} job {job_id} has ended already")
        return row.host


def _is_left_alone(site: Site, job_id: str) -> bool:
    with site.catalog.read() as session:
        return bool(find_job(session, None, job_id).params.get("left_alone"))


def _count_events(site: Site, job_id: str) -> int:
    with site.catalog.read() as session:
        return find_job(session, None, job_id).events


async def clean_up(site: Site, job_id: str, kind: str) -> bool:
    """Clean up after a failure, or complete a job whose result is complete; True when the job has succeeded after all."""
    clean = kind_of(kind).clean
    assert clean is not None
    if await retry_while_away(site, lambda: asyncio.to_thread(_is_left_alone, site, job_id)):
        log.error("skipping the cleanup, because the service crashed repeatedly during it", job=job_id, kind=kind)
        return False
    try:
        return bool(await retry_while_away(site, lambda: clean(site.for_job(job_id), job_id)))
    except StrongroomError as error:
        log.warning("cleanup failed; the sweep will retry it", job=job_id, error=error.code, reason=error.message)
    except Exception:
        log.exception("unexpected error in a cleanup", job=job_id, kind=kind)
    return False


async def settle_job(site: Site, job_id: str, failure: Failure | None) -> None:
    """Record the end of the job in the catalog."""

    def write() -> None:
        with site.catalog.write() as session:
            outcomes.settle(session, find_job(session, None, job_id), failure)
        site.secrets.drop(job_id)

    await retry_while_away(site, lambda: asyncio.to_thread(write))


async def retry_while_away(site: Site, work: Callable[[], Awaitable[T]]) -> T:
    """Do ``work``, which is idempotent, and repeat it while the catalog's database does not answer: no job can end without it."""
    while True:
        try:
            return await work()
        except DBAPIError as error:
            if not site.catalog.is_temporary(error):
                raise
            log.warning("the database does not answer", reason=str(error.orig).strip())
        await asyncio.sleep(RETRY_PAUSE)
