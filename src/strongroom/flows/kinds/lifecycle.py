"""The life of a server: adopt, start, stop, restart, resize, activate, discard the previous data, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy.orm import Session

from strongroom.agent.client import AgentClient
from strongroom.agent.models import ServerView
from strongroom.catalog import Instance, Job, now
from strongroom.errors import JobError, NotFound
from strongroom.flows.kind import Failure, JobKind, Step
from strongroom.flows.site import Site
from strongroom.flows.status import move_instance
from strongroom.flows.steps import define, definition_of, instance_of, load_instance, record_view


async def _ask_agent(site: Site, job_id: str, call: Callable[[AgentClient, str], Awaitable[ServerView]]) -> None:
    """Have the agent do something with the server of the job, and record the state that it answers with."""
    _, instance = await load_instance(site, job_id)
    await record_view(site, await call(site.agents.client(instance.host), instance.id))


async def start(site: Site, job_id: str) -> None:
    """Start the server and wait until it serves."""
    await _ask_agent(site, job_id, lambda agent, server: agent.start_server(server))


async def stop(site: Site, job_id: str) -> None:
    """Stop the server and wait until it is gone."""
    await _ask_agent(site, job_id, lambda agent, server: agent.stop_server(server))


async def restart(site: Site, job_id: str) -> None:
    """Stop, start, wait."""
    await _ask_agent(site, job_id, lambda agent, server: agent.restart_server(server))


async def resize(site: Site, job_id: str) -> None:
    """Restart the server with the memory of the wanted flavor; if it does not come up with it, with what it had."""
    job, instance = await load_instance(site, job_id)
    agent = site.agents.client(instance.host)

    async def restart_with(flavor: str) -> ServerView:
        await agent.put_server(instance.id, definition_of(site, instance, flavor))
        return await agent.restart_server(instance.id)

    try:
        view = await restart_with(job.params["flavor"])
    except JobError:
        if instance.flavor in site.settings.flavors:  # it may have left the configuration
            await record_view(site, await restart_with(instance.flavor))
        raise
    await record_view(site, view)

    def keep() -> None:
        with site.catalog.write() as session:
            row = session.get(Instance, instance.id)
            assert row is not None
            row.flavor = job.params["flavor"]

    await asyncio.to_thread(keep)


async def activate(site: Site, job_id: str) -> None:
    """Let an isolated copy run its events, replication and workers, and restart it."""
    await _ask_agent(site, job_id, lambda agent, server: agent.activate(server))


async def discard_old(site: Site, job_id: str) -> None:
    """Remove the data that restores have put aside."""
    await _ask_agent(site, job_id, lambda agent, server: agent.discard_old(server))


async def delete_server(site: Site, job_id: str) -> None:
    """Remove the server and its data; one that the agent does not know is gone already."""
    _, instance = await load_instance(site, job_id)
    try:
        await site.agents.client(instance.host).delete_server(instance.id)
    except NotFound:
        return


def _settle_deletion(session: Session, job: Job, failure: Failure | None) -> None:
    instance = instance_of(session, job)
    if failure is None:
        instance.deleted = now()
    else:
        move_instance(instance, "ERROR")


def _settle_adoption(session: Session, job: Job, failure: Failure | None) -> None:
    """Nothing was made by an adoption that failed, and the server may be adopted again."""
    if failure is not None:
        instance_of(session, job).deleted = now()


def _restarts(name: str, step: Step) -> JobKind:
    return JobKind(name=name, operation=f"{name} instance", steps=(step,), has_task=True, clears_fault=True)


KINDS = (
    JobKind(
        name="adopt",
        operation="adopt instance",
        steps=(define, start),
        clean=delete_server,  # the agent forgets the server, which stays as it is
        settle=_settle_adoption,
        has_task=True,
        clears_fault=True,
    ),
    _restarts("start", start),
    _restarts("stop", stop),
    _restarts("restart", restart),
    _restarts("resize", resize),
    _restarts("activate", activate),
    JobKind(name="discard_old", operation="discard old data", steps=(discard_old,)),
    JobKind(name="delete_instance", operation="delete instance", steps=(delete_server,), settle=_settle_deletion),
)
