"""Steps, and parts of steps, that several kinds of jobs share. Each step is idempotent and raises the error that ends the job."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy.orm import Session

from strongroom.agent.models import ServerDefinition, ServerView
from strongroom.catalog import Backup, Instance, Job, now
from strongroom.catalog.find import find_job
from strongroom.errors import NotFound, StrongroomError
from strongroom.flows import outcomes
from strongroom.flows.follow import run_on_agent
from strongroom.flows.kind import kind_of
from strongroom.flows.site import Site
from strongroom.flows.status import move_backup


def backup_of(session: Session, job: Job) -> Backup:
    """The backup of the job."""
    backup = session.get(Backup, job.backup_id) if job.backup_id else None
    assert backup is not None, f"{job.kind} job {job.id} has no backup"
    return backup


def instance_of(session: Session, job: Job) -> Instance:
    """The instance of the job."""
    instance = session.get(Instance, job.instance_id) if job.instance_id else None
    assert instance is not None, f"{job.kind} job {job.id} has no instance"
    return instance


def load_job(site: Site, job_id: str) -> tuple[Job, Instance | None, Backup | None]:
    """The job, its instance and its backup."""
    with site.catalog.read() as session:
        job = find_job(session, None, job_id)
        instance = session.get(Instance, job.instance_id) if job.instance_id else None
        backup = session.get(Backup, job.backup_id) if job.backup_id else None
        return job, instance, backup


async def load_instance(site: Site, job_id: str) -> tuple[Job, Instance]:
    """The job and its instance. Raises NotFound."""
    job, instance, _ = await asyncio.to_thread(load_job, site, job_id)
    if instance is None:
        raise NotFound(f"instance {job.instance_id} of job {job_id} does not exist")
    return job, instance


async def record_view(site: Site, view: ServerView) -> None:
    """Copy the agent's view of the server into the catalog."""

    def write() -> None:
        with site.catalog.write() as session:
            instance = session.get(Instance, view.id)
            if instance is not None:
                outcomes.mirror(instance, view.model_dump(mode="json"))
                instance.seen = now()

    await asyncio.to_thread(write)


def definition_of(site: Site, instance: Instance, flavor: str) -> ServerDefinition:
    """The definition of a server that the agent runs."""
    return ServerDefinition(
        name=instance.name,
        datastore=instance.datastore,
        series=instance.series,
        ram_mb=site.settings.flavors[flavor].ram,
    )


async def define(site: Site, job_id: str) -> None:
    """Define the server on its agent, which gives it a directory and an address."""
    job, instance = await load_instance(site, job_id)
    if job.params.get("adopt"):
        definition = ServerDefinition.model_validate(job.params["adopt"])
    else:
        definition = definition_of(site, instance, instance.flavor)
    await record_view(site, await site.agents.client(instance.host).put_server(instance.id, definition))


async def work(site: Site, job_id: str) -> None:
    """Run the job's worker on the agent and store its output. If it fails, the kind of the job may change it and try again."""

    def keep(output: dict[str, Any]) -> None:
        with site.catalog.write() as session:
            find_job(session, None, job_id).output = output

    def retry(error: StrongroomError) -> bool:
        with site.catalog.write() as session:
            job = find_job(session, None, job_id)
            change = kind_of(job.kind).retry
            return change is not None and change(session, job, error)

    while True:
        try:
            result = await run_on_agent(site, job_id)
        except StrongroomError as error:
            if await asyncio.to_thread(retry, error):
                continue
            if error.output:
                await asyncio.to_thread(keep, dict(error.output))
            raise
        await asyncio.to_thread(keep, {**result.output, "max_rss": result.max_rss})
        return


def start_building(session: Session, job: Job) -> None:
    """Mark the backup of the job as being made."""
    backup = backup_of(session, job)
    move_backup(backup, "BUILDING")
