"""Ends what an agent still has or does for jobs that ended in the catalog: workers, servers whose adoption failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog
from sqlalchemy import select

from strongroom.agent.client import AgentClient
from strongroom.agent.models import ServerView
from strongroom.catalog import Instance, Job
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
    ended: list[Job] = []
    for view in await agent.jobs():
        job = await asyncio.to_thread(_find_ended, site, host, view.id)
        if job is None or (view.status != "running" and not _needs_cleanup(job)):
            continue
        if view.status == "running":
            log.info("cancelling the worker of an ended job", host=host, job=view.id)
            await _cancel(agent, view.id)
        ended.append(job)
    site.agents.presence.settle(host)
    for job in ended:
        await asyncio.to_thread(_mark_tidied, site, job.id)
        if clean := kind_of(job.kind).clean:
            try:
                await clean(site.for_job(job.id), job.id)
            except StrongroomError as error:
                log.warning("cleanup failed; the sweep will retry it", job=job.id, error=error.code, reason=error.message)


async def forget_adopted(site: Site, host: str, unknown: Sequence[ServerView]) -> None:
    """Let the agent forget servers whose adoption failed here while it continued there. The servers are not changed."""
    for view in unknown:
        if not await asyncio.to_thread(_adoption_failed, site, host, view.id):
            continue
        try:
            await site.agents.client(host).delete_server(view.id)
        except StrongroomError as error:
            log.warning("cannot forget a server whose adoption failed", host=host, server=view.id, reason=error.message)
        else:
            log.info("forgot a server whose adoption failed; it stays as it is", host=host, server=view.id, name=view.name)


def _adoption_failed(site: Site, host: str, server: str) -> bool:
    """Whether the server is of an instance that is gone, and that never was more than the attempt to adopt it."""
    with site.catalog.read() as session:
        row = session.get(Instance, server)
        ends = set(session.scalars(select(Job.status).where(Job.instance_id == server, Job.kind == "adopt")))
    if row is None or row.host != host or row.deleted is None or not row.is_adopted:
        return False
    return bool(ends) and ends <= {"failed", "cancelled"}


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
