"""Cancels workers whose jobs have ended in the catalog, when their host answers again or for the first time."""

from __future__ import annotations

import asyncio

import structlog

from strongroom.agent.client import AgentClient
from strongroom.catalog import Job
from strongroom.errors import HOST_ERRORS, StrongroomError
from strongroom.flows.kind import kind_of
from strongroom.flows.site import Site

log = structlog.get_logger()


async def call_back(site: Site, host: str) -> None:
    """Cancel workers on the host whose jobs have ended here, and clean up after jobs that failed because the host was lost.

    A failed job remains failed, even if its worker succeeded. If the host becomes unreachable again, the rest is done later.
    """
    try:
        await _call_back(site, host)
    except StrongroomError as error:
        log.warning("host is unreachable again", host=host, reason=error.message)


async def _call_back(site: Site, host: str) -> None:
    agent = site.agents.client(host)
    for view in await agent.jobs():
        job = await asyncio.to_thread(_find_ended, site, host, view.id)
        if job is None or (view.status != "running" and not _needs_cleanup(job)):
            continue
        if view.status == "running":
            log.info("cancelling the worker of an ended job", host=host, job=view.id)
            await _cancel(agent, view.id)
        await asyncio.to_thread(_mark_tidied, site, job.id)
        if clean := kind_of(job.kind).clean:
            try:
                await clean(site.for_job(job.id), job.id)
            except StrongroomError as error:
                log.warning("cleanup failed; the sweep will retry it", job=job.id, error=error.code, reason=error.message)


async def _cancel(agent: AgentClient, agent_job: str) -> None:
    view = await agent.cancel_job(agent_job)
    while view.status == "running":
        view = await agent.get_job(agent_job, wait=5, after=2**31)


def _find_ended(site: Site, host: str, agent_job: str) -> Job | None:
    """The failed or cancelled job of the host to which the agent's job belongs."""
    with site.catalog.read() as session:
        job = session.get(Job, agent_job.rpartition("-")[0])
        return job if job is not None and job.host == host and job.status in ("failed", "cancelled") else None


def _needs_cleanup(job: Job) -> bool:
    """Whether the job failed because its host was lost, and was not cleaned up since."""
    return (job.fault or {}).get("code") in HOST_ERRORS and not job.output.get("tidied")


def _mark_tidied(site: Site, job_id: str) -> None:
    with site.catalog.write() as session:
        job = session.get(Job, job_id)
        assert job is not None
        job.output = {**job.output, "tidied": True}
