"""Runs one job on its agent: starts it or finds the running one, copies its progress, cancels it, and retries a lost one."""

from __future__ import annotations

import asyncio
import time

import structlog
from sqlalchemy.orm import Session

from strongroom.catalog import Job
from strongroom.catalog.find import find_job
from strongroom.errors import Busy, Cancelled, JobLost, from_dict
from strongroom.flows.kind import kind_of
from strongroom.flows.site import Site
from strongroom.worker.spec import JobRequest, JobView, Result

log = structlog.get_logger()

ATTEMPTS = 3
"""How often a job is started before the loss of its worker is a failure."""
LOOK = 0.5
"""Seconds between two polls of a running job, for its progress and for its cancellation."""
_ONLY_ITS_END = 2**31
"""More events than a job can have: the agent responds when the job ends, or after the wait."""


async def run_on_agent(site: Site, job_id: str) -> Result:
    """The result of the job on the agent of its host. Raises what the worker reported, Cancelled, JobLost, HostSilent.

    Call it again after HostSilent: it finds the running job.
    """
    while True:
        attempt = await asyncio.to_thread(_attempt, site, job_id)
        agent_job = f"{job_id}-{attempt}"
        view = await _follow(site, job_id, agent_job)
        if view.status != "lost":
            return _outcome(view)
        log.warning("worker lost", job=job_id, attempt=attempt)
        if await asyncio.to_thread(_cancelled, site, job_id):
            raise Cancelled(f"job {job_id} was cancelled")
        if attempt >= ATTEMPTS:
            raise JobLost(
                f"the worker of job {job_id} died {attempt} times without a result",
                remedy="Something kills it: look for out-of-memory kills in the kernel log of the host.",
            )
        await asyncio.to_thread(_next_attempt, site, job_id, attempt + 1)


def _outcome(view: JobView) -> Result:
    assert view.result is not None
    if view.result.status == "succeeded":
        return view.result
    if view.result.status == "cancelled":
        raise Cancelled(f"job {view.id} was cancelled")
    error = from_dict(view.result.failure.model_dump() if view.result.failure else {})
    error.output = view.result.output or None
    raise error


async def _follow(site: Site, job_id: str, agent_job: str) -> JobView:
    def prepare() -> tuple[str, JobRequest] | None:
        with site.catalog.read() as session:
            job = find_job(session, None, job_id)
            if job.cancel:
                return None
            return job_host(job), make_request(site, session, job)

    prepared = await asyncio.to_thread(prepare)
    if prepared is None:
        # Cancelled before this attempt: only an attempt that is already running has to be stopped.
        return await _cancel_existing(site, job_id, agent_job)
    host, request = prepared
    agent = site.agents.client(host)
    view = await _put(site, job_id, agent_job, host, request)
    while view.status == "running":
        if await asyncio.to_thread(_mirror, site, job_id, view):
            view = await agent.cancel_job(agent_job)
            if view.status != "running":
                break
        view = await agent.get_job(agent_job, wait=LOOK, after=_ONLY_ITS_END)
    await asyncio.to_thread(_mirror, site, job_id, view)
    return view


def job_host(job: Job) -> str:
    """The host of the job. A job that runs a worker got one when it was requested."""
    assert job.host is not None, f"{job.kind} job {job.id} has no host"
    return job.host


def make_request(site: Site, session: Session, job: Job) -> JobRequest:
    """The request for the agent. Credentials are added here and stored nowhere. Raises ConfigurationError."""
    make = kind_of(job.kind).order
    assert make is not None, f"{job.kind} jobs run no worker"
    return make(site, session, job)


async def _put(site: Site, job_id: str, agent_job: str, host: str, request: JobRequest) -> JobView:
    """Start the job, with retries: a job that has just ended may hold the lock of the server a moment longer."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return await site.agents.client(host).put_job(agent_job, request)
        except Busy:
            if time.monotonic() > deadline or await asyncio.to_thread(_cancelled, site, job_id):
                raise
            await asyncio.sleep(0.5)


async def _cancel_existing(site: Site, job_id: str, agent_job: str) -> JobView:
    def host() -> str:
        with site.catalog.read() as session:
            return job_host(find_job(session, None, job_id))

    agent = site.agents.client(await asyncio.to_thread(host))
    known = {view.id for view in await agent.jobs()}
    if agent_job not in known:
        raise Cancelled(f"job {job_id} was cancelled")
    view = await agent.cancel_job(agent_job)
    while view.status == "running":
        view = await agent.get_job(agent_job, wait=5, after=_ONLY_ITS_END)
    if view.status == "lost":
        raise Cancelled(f"job {job_id} was cancelled")
    return view


def _attempt(site: Site, job_id: str) -> int:
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        job.attempts = job.attempts or 1
        return job.attempts


def _next_attempt(site: Site, job_id: str, attempt: int) -> None:
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        job.attempts = attempt
        job.message = f"the worker died; attempt {attempt}"
        job.events += 1


def _cancelled(site: Site, job_id: str) -> bool:
    with site.catalog.read() as session:
        return find_job(session, None, job_id).cancel


def _mirror(site: Site, job_id: str, view: JobView) -> bool:
    """Copy the newest event into the row; True when a user cancelled the job."""
    event = view.event
    with site.catalog.read() as session:
        job: Job = find_job(session, None, job_id)
        if event is None or (job.phase, job.done, job.stored) == (event.phase, event.done, event.stored):
            return job.cancel
    with site.catalog.write() as session:
        job = find_job(session, None, job_id)
        job.phase, job.done, job.total, job.stored = event.phase, event.done, event.total, event.stored
        job.message = event.message or job.message
        job.events += 1
        return job.cancel
