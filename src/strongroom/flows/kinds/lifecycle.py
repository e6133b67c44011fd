"""The life of a server: adopt, start, stop, restart, activate, discard the previous data, reset, delete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal

from sqlalchemy.orm import Session

from strongroom.agent.client import AgentClient
from strongroom.agent.models import ServerView
from strongroom.catalog import Job, now
from strongroom.catalog.find import find_instance, unfinished_jobs
from strongroom.errors import Cancelled, Conflict, NotFound
from strongroom.flows import outcomes
from strongroom.flows.hosts.fresh import refresh_instance
from strongroom.flows.jobs import cancel_job, new_job, refuse_if_busy, refuse_if_node
from strongroom.flows.kind import Failure, JobKind, Step
from strongroom.flows.records import refuse_if_protected
from strongroom.flows.site import Site
from strongroom.flows.status import move_instance
from strongroom.flows.steps import define, instance_of, load_instance, record_view


async def _ask_agent(site: Site, job_id: str, call: Callable[[AgentClient, str], Awaitable[ServerView]]) -> None:
    """Call the agent for the server of the job, and record the returned state."""
    _, instance = await load_instance(site, job_id)
    await record_view(site, await call(site.agents.client(instance.host), instance.id))


async def start(site: Site, job_id: str) -> None:
    """Start the server and wait until it accepts connections."""
    await _ask_agent(site, job_id, lambda agent, server: agent.start_server(server))


async def stop(site: Site, job_id: str) -> None:
    """Stop the server and wait until it has ended."""
    await _ask_agent(site, job_id, lambda agent, server: agent.stop_server(server))


async def restart(site: Site, job_id: str) -> None:
    """Stop and start the server, and wait until it accepts connections."""
    await _ask_agent(site, job_id, lambda agent, server: agent.restart_server(server))


async def activate(site: Site, job_id: str) -> None:
    """Enable the events, replication and workers of an isolated copy, and restart it."""
    await _ask_agent(site, job_id, lambda agent, server: agent.activate(server))


async def discard_old(site: Site, job_id: str) -> None:
    """Delete the previous data."""
    await _ask_agent(site, job_id, lambda agent, server: agent.discard_old(server))


async def delete_server(site: Site, job_id: str) -> None:
    """Delete the server and its data, unless the agent does not know it."""
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
    """Delete the instance of a failed adoption, so that the server can be adopted again."""
    if failure is not None:
        instance_of(session, job).deleted = now()


def make_kind(name: str, step: Step) -> JobKind:
    """The kind of an operation with one step that neither creates nor deletes the instance."""
    return JobKind(name=name, operation=f"{name} instance", steps=(step,), has_task=True, clears_fault=True)


Action = Literal["start", "stop", "restart", "discard_old", "activate"]


TASK: dict[Action, str | None] = {
    "start": "REBOOT",
    "stop": "REBOOT",
    "restart": "REBOOT",
    "discard_old": None,
    "activate": "REBOOT",
}


def request_action(site: Site, project: str, instance: str, kind: Action) -> Job:
    """Start, stop, restart or activate the server, or discard its previous data.

    Raises NotFound, Busy; Conflict for the activation of a server that is not isolated.
    """
    if kind == "activate":
        refresh_instance(site, project, instance, unless=lambda row: bool(row.isolated))
    with site.catalog.write() as session:
        row = find_instance(session, project, instance)
        refuse_if_busy(session, row, kind.replace("_", " "))
        refuse_if_node(row, kind.replace("_", " "))
        if kind == "activate" and not row.isolated:
            raise Conflict(f"instance {row.name} ({row.id}) is not isolated; nothing to activate")
        move_instance(row, TASK[kind] or row.task)
        job = new_job(session, project, kind, instance=row)
    site.start(job)
    return job


def request_reset(site: Site, project: str, instance: str) -> None:
    """End all jobs of the instance as cancelled, so that it can be used or deleted again.

    This does not wait for their workers, which are stopped as soon as possible. Running backups fail. Raises NotFound.
    """
    with site.catalog.write() as session:
        row = find_instance(session, project, instance)
        for job in unfinished_jobs(session, instance_id=row.id):
            job.cancel = True
            why = Cancelled(f"{job.kind} job {job.id} was cancelled: the status of instance {row.name} ({row.id}) was reset")
            outcomes.settle(session, job, why.to_dict())
        move_instance(row, None)


def request_delete_instance(site: Site, project: str, instance: str) -> Job:
    """Stop the server and delete it with its data, and cancel its jobs; backups are kept. Raises NotFound, Protected."""
    with site.catalog.write() as session:
        row = find_instance(session, project, instance)
        refuse_if_node(row, "delete")
        refuse_if_protected([row])
        for job in unfinished_jobs(session, instance_id=row.id):
            if job.kind == "delete_instance":
                return job
            cancel_job(session, job)
        move_instance(row, "SHUTDOWN")
        job = new_job(session, project, "delete_instance", instance=row)
    site.start(job)
    return job


KINDS = (
    JobKind(
        name="adopt",
        operation="adopt instance",
        steps=(define, start),
        clean=delete_server,  # the agent forgets the server and does not change it
        settle=_settle_adoption,
        has_task=True,
        clears_fault=True,
    ),
    make_kind("start", start),
    make_kind("stop", stop),
    make_kind("restart", restart),
    make_kind("activate", activate),
    JobKind(name="discard_old", operation="discard previous data", steps=(discard_old,)),
    JobKind(name="delete_instance", operation="delete instance", steps=(delete_server,), settle=_settle_deletion),
)
